"""Secrets of the tests' own, by which any other place that they come to is found.

Every one begins with the same word, which nothing else in a run may hold.
"""

from typing import Final

CANARY: Final = "c4nary"


def secret(of: str) -> str:
    """Return a secret; the same for the same thing."""
    return f"{CANARY}-{of}-5f0e9b1d"
