"""Intervals, pooled values, tests, power."""
