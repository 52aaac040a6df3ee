"""Starts engines: the flags that a pool's profile means, and child processes that end with us."""
