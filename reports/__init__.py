"""Reports: what the records say."""
