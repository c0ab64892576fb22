"""What lies on disk: the content-keyed `store` with its `outcomes`, run folders, and `files` that are whole or refused."""
