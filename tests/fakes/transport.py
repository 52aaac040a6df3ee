"""A transport that remembers what was written and does as it is told."""

import asyncio


class FakeTransport(asyncio.Transport):
    """Keeps an `asyncio.Transport`'s promises as far as a server protocol sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.aborted = False
        self.ended = False
        self.unread = 0
        """Bytes that the other side did not read yet."""

    def write(self, data) -> None:
        """Remember; a closing transport drops what is written, as real ones do."""
        if not self.closed:
            self.written += bytes(data)

    def writelines(self, list_of_data) -> None:
        """Remember all."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """Return what is left to be read."""
        return self.unread

    def can_write_eof(self) -> bool:
        """Say yes, as TCP does."""
        return True

    def write_eof(self) -> None:
        """Remember."""
        self.ended = True

    def close(self) -> None:
        """Remember."""
        self.closed = True

    def abort(self) -> None:
        """Remember."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self.closed

    def take(self) -> bytes:
        """Return what was written since the last time."""
        written, self.written = self.written, b""
        return written
