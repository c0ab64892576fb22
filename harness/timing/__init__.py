"""How long things take: the `clock`, what the `machine` did meanwhile, first output (`streaming`), `floors`, `load`, and `systems` timed."""
