"""Blind listening tests: the page, and what was answered."""
