"""What a graph is like before any network: its doors, its shape, and how its labels lie on it."""
