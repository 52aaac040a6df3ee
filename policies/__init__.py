"""Decisions: facts in, values out. Standard library only; no I/O, no clock, no hidden randomness."""
