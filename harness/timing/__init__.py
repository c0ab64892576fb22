"""The clock, and beside it: conditions, compilations, memory, energy, floors, first output, load, and what is timed of each kind of system."""
