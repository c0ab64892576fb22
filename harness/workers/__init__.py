"""Who does the work: `jobs` of steps, and `executors` that run them here, in supervised processes or as Ray actors."""
