"""Reads the recordings: what was asked, and the answer with its chunks joined."""

from dataclasses import dataclass
from pathlib import Path

from engines import sse
from engines.engine import Kind

RECORDINGS = Path(__file__).parents[1] / "recordings"

KIND_OF_FOLDER = {
    "llamacpp_xllamacpp": Kind.LLAMACPP,
    "sglang_from_source": Kind.SGLANG,
    "tgi_from_source": Kind.TGI,
    "vllm032_default": Kind.VLLM,
    "vllm032_faults": Kind.VLLM,
    "vllm032_full": Kind.VLLM,
    "vllm032_kvpressure": Kind.VLLM,
    "vllm032_limits": Kind.VLLM,
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer; `path` and `asked` are empty where only the answer was kept."""

    name: str
    """`folder/file`, without the ending."""
    kind: Kind
    path: str
    asked: bytes
    status: int
    body: bytes

    @property
    def is_stream(self) -> bool:
        return b"data:" in self.body[:200]

    @property
    def payloads(self) -> list[bytes]:
        """The data of a stream's events, in order."""
        frames, _ = sse.split(self.body)
        return [data for data in map(sse.data_of, frames) if data is not None]


def read(name: str) -> Exchange:
    (file,) = (path for path in RECORDINGS.glob(f"{name}.*") if path.suffix in {".http", ".raw"})
    request, _, answer = file.read_bytes().rpartition(b"<<< RESPONSE (raw bytes)\n")
    asked_head, _, asked = request.removeprefix(b">>> REQUEST\n").partition(b"\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = _joined(body)
    target = asked_head.split(b" ")
    return Exchange(
        name=name,
        kind=KIND_OF_FOLDER[name.split("/", maxsplit=1)[0]],
        path=target[1].decode() if len(target) > 1 else "",
        asked=asked.removesuffix(b"\n\n"),
        status=int(head.split(b" ")[1]),
        body=body,
    )


def every() -> list[Exchange]:
    files = sorted(RECORDINGS.glob("*/*"))
    return [
        read(f"{file.parent.name}/{file.stem}")
        for file in files
        if file.suffix in {".http", ".raw"}
    ]


def body_of(name: str) -> bytes:
    """Return a body that was kept alone."""
    return (RECORDINGS / f"{name}.body").read_bytes()


def _joined(chunked: bytes) -> bytes:
    joined = b""
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        joined += chunked[: int(size, 16)]
        chunked = chunked[int(size, 16) + 2 :]
    return joined
