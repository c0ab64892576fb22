"""What the papers claim, as data, and what a measured frame says of it."""
