"""Intervals, pooled figures, tests, power."""
