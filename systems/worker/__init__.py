"""Systems that live in another Python environment, spoken to over pipes; README.md has the protocol and how to write a worker."""
