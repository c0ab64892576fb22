"""Beside the clock: conditions, compilations, memory, energy, floors, first output, load, and what is timed of each kind of system."""
