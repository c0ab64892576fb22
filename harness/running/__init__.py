"""A run: planned, predicted, scored, joined."""
