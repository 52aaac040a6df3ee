"""What a caller's connection may cost: sizes in bytes, times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one connection and one request."""

    max_header_bytes: int = 64 * 1024
    max_body_bytes: int = 32 * 1024 * 1024
    header_timeout_s: float = 10.0
    """From the first byte of a request, or of a connection, to the end of its headers."""
    body_timeout_s: float = 30.0
    """From the end of the headers to the end of the body."""
    keep_alive_s: float = 75.0
    """How long a connection may wait for its next request."""
