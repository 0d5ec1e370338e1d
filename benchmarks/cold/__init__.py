"""Functions that read one row, and how each is built."""
