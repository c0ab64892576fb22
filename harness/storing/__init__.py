"""What lies on disk: the store, run folders, and files that are whole or refused."""
