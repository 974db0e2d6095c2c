"""Data sets: every loader hands over one `Graph`."""
