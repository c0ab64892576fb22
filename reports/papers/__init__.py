"""A paper's tables and figures, cell by cell: what was published beside what runs on this machine measured."""
