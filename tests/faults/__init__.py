"""Faults at the N-th operation, for every N: errors of the system, short reads and writes, lost renames, kills, power cuts."""
