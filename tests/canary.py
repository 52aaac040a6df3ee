"""Secrets of the tests' own, by which any other place that they come to is found.

Every one begins with the same word, which nothing else in a run may hold; nor may the whole text of
a caller's key, or of its token, stand anywhere.
"""

import re
from typing import Final

CANARY: Final = "c4nary"
_KEY = re.compile(r"hw_[0-9a-f]{12}_[\w-]{43}")
_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{32,}")
"""What a head's first brace and quote become in base64."""


def secret(of: str) -> str:
    """Return a secret; the same for the same thing."""
    return f"{CANARY}-{of}-5f0e9b1d"


def has_secret(text: str) -> bool:
    """Tell whether a secret, or a whole key or token, stands in what was written."""
    return (
        CANARY in text
        or ("hw_" in text and _KEY.search(text) is not None)
        or ("eyJ" in text and _TOKEN.search(text) is not None)
    )
