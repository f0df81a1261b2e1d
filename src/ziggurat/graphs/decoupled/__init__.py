"""Networks in which transformation and propagation are two things: each has a depth of its own."""
