"""Whether a run became worse than its baseline."""
