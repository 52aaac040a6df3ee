"""Where an engine's answer ends: the three body framings of HTTP/1.1, followed without re-framing.

Each framing is fed the bytes that follow the head. `feed` returns what may be relayed as it came;
`payload` holds the same bytes without framing, for whoever has to look into them. Nothing is
relayed past the end of the answer, and nothing that breaks the grammar is relayed at all.
Source: RFC 9112, sections 6 and 7.1.
"""

LAST_CHUNK = b"0\r\n\r\n"
MAX_CHUNK_BYTES = 1 << 30
_HEX = b"0123456789abcdefABCDEF"
_MAX_SIZE_LINE_BYTES = 16
_MAX_TRAILER_BYTES = 8 * 1024
_CRLF = b"\r\n"
_CR = _CRLF[0]
_END_BYTES = len(_CRLF)


class FramingError(Exception):
    """The engine's bytes are not a body of the framing that its head announced."""


class Framing:
    """One answer's body on its way through; a base that each kind of framing completes.

    No protocol and no ABC, so that compiled code reads its fields as those of a struct.
    """

    __slots__ = ("chunked", "done", "excess", "payload")

    def __init__(self, *, chunked: bool, done: bool, excess: bool) -> None:
        self.chunked = chunked
        """Whether `feed` returns chunked framing; then the relay ends the body with `LAST_CHUNK`."""
        self.done = done
        self.excess = excess
        """Bytes came after the end: the connection cannot be kept."""
        self.payload: list[bytes] = []
        """Body bytes of the latest `feed`, in order, without framing."""

    @property
    def between(self) -> bool:
        """No chunk is half way through: what was relayed can be followed by one of ours."""
        return True

    def feed(self, data: bytes) -> bytes:
        """Return the part of `data` to relay; the end marker of a chunked body is left out."""
        raise NotImplementedError

    def closed(self) -> bool:
        """Return whether the peer's end of stream completes the body."""
        return self.done


class FixedLength(Framing):
    """A body of `Content-Length` bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__(chunked=False, done=length == 0, excess=False)
        self._left = length

    def feed(self, data: bytes) -> bytes:
        """See `Framing.feed`."""
        if len(data) > self._left:
            self.excess = True
            data = data[: self._left]
        self._left -= len(data)
        self.done = self._left == 0
        self.payload = [data]
        return data


class UntilClose(Framing):
    """A body that ends with the connection."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(chunked=False, done=False, excess=True)

    def feed(self, data: bytes) -> bytes:
        """See `Framing.feed`."""
        self.payload = [data]
        return data

    def closed(self) -> bool:
        """See `Framing.closed`."""
        self.done = True
        self.payload = []
        return True


class Chunked(Framing):
    """A chunked body.

    Extensions are refused: no engine sends them, and passing on what is not understood is how
    two parsers come to disagree. Trailers are read and dropped.
    """

    __slots__ = ("_held", "_left", "_trailer_bytes")

    def __init__(self) -> None:
        super().__init__(chunked=True, done=False, excess=False)
        self._left = 0
        """Bytes to come of the current chunk, its closing CRLF included; 0 before a size line."""
        self._held = b""
        """The start of a line whose end has not come."""
        self._trailer_bytes = -1
        """-1 before the last chunk; then the bytes of trailer lines seen."""

    def feed(self, data: bytes) -> bytes:  # noqa: C901 # one pass over the bytes, on the hot path
        """See `Framing.feed`."""
        payload: list[bytes] = []
        self.payload = payload
        if self._held:
            data = self._held + data
            self._held = b""
        if self._trailer_bytes >= 0:
            self._read_trailer(data, 0)
            return b""
        at = 0
        size = len(data)
        while at < size:
            left = self._left
            if left:
                at = self._pass_chunk(data, at, left, payload)
                continue
            end = data.find(b"\r\n", at, at + _MAX_SIZE_LINE_BYTES + 2)
            if end < 0:
                if size - at > _MAX_SIZE_LINE_BYTES:
                    raise FramingError("chunk size line is too long or has an extension")
                self._held = data[at:]
                return data[:at]
            digits = data[at:end]
            if not digits or digits.translate(None, _HEX):
                raise FramingError("chunk size is not a hexadecimal number")
            length = int(digits, 16)
            if length == 0:
                self._trailer_bytes = 0
                self._read_trailer(data, end + 2)
                return data[:at]
            if length > MAX_CHUNK_BYTES:
                raise FramingError("chunk is larger than 1 GiB")
            self._left = length + 2
            at = end + 2
        return data

    def _pass_chunk(self, data: bytes, at: int, left: int, payload: list[bytes]) -> int:
        """Go through the current chunk as far as `data` has it; return where it stopped."""
        end = at + left
        size = len(data)
        if end <= size:
            if data[max(at, end - _END_BYTES) : end] != _CRLF[max(0, _END_BYTES - left) :]:
                raise FramingError("chunk does not end with CRLF")
            if left > _END_BYTES:
                payload.append(data[at : end - 2])
            self._left = 0
            return end
        stop = end - 2
        if size > stop and data[size - 1] != _CR:
            raise FramingError("chunk does not end with CRLF")
        if left > _END_BYTES:
            payload.append(data[at : min(size, stop)])
        self._left = end - size
        return size

    def _read_trailer(self, data: bytes, at: int) -> None:
        """Read lines up to the empty one; they are dropped."""
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                self._held = data[at:]
                if self._trailer_bytes + len(self._held) > _MAX_TRAILER_BYTES:
                    raise FramingError("trailers are larger than 8 KiB")
                return
            if end == at:
                self.done = True
                self.excess = end + 2 < len(data)
                return
            self._trailer_bytes += end - at
            at = end + 2

    @property
    def between(self) -> bool:
        """See `Framing.between`."""
        return not self._left
