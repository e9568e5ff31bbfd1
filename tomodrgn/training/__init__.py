"""Learning, and the folder that remembers it."""
