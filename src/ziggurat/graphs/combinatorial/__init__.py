"""Networks that solve problems of choosing vertices or edges."""
