"""Suites: what is asked of systems."""
