"""How figures, words and tables are written, the same in every format."""
