"""Who does the work: this process, supervised processes, Ray actors."""
