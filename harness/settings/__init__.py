"""What a user can ask for: names, configuration, and the check of every value."""
