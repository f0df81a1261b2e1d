"""`ziggurat serve`: a memory behind an HTTP API, and one page to use it."""
