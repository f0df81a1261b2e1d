"""The Poincaré ball: its operations with derived gradients, and the layers of a network in it."""
