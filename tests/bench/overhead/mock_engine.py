"""The mock engine where there is no C compiler: the same answers and paces as mock_engine.c.

python -m tests.bench.overhead.mock_engine PORT      (0: any free port; the first line names it)
"""

import asyncio
import heapq
import json
import re
import sys
import time
from itertools import count
from typing import cast

import httptools
import uvloop

DEFAULT_EVENTS = 64
DEFAULT_INTERVAL_US = 10_000
PACE = re.compile(rb'"(mock_events|mock_interval_us)": ?(\d+)')
GOLDEN = 0.618034
COMPLETION = (
    b'{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"The answer of a mock '
    b'engine is always the same."},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":10,"total_tokens":22}}'
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"mock","system_fingerprint":"@%016d","choices":[{"index":0,'
    b'"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
STREAM_TAIL = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":64,"total_tokens":76}}\n\n'
    b"data: [DONE]\n\n"
)
MODELS = {
    "object": "list",
    "data": [{"id": "mock", "object": "model", "owned_by": "mock", "max_model_len": 1_000_000}],
}
METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="mock"}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{model_name="mock"}} 0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{model_name="mock"}} 0.01
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{model_name="mock"}} {progress}
"""


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(payload: bytes) -> bytes:
    """Frame a piece of a body in chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def event() -> bytes:
    """Return one event, with the time of sending, in its chunk."""
    return chunk(EVENT % (time.monotonic_ns() // 1000))


class Pacer:
    """All streams in one heap, with one timer for the earliest."""

    def __init__(self) -> None:
        self.due: list[tuple[float, int, Connection]] = []
        self.opened = 0
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: "Connection", interval_s: float) -> None:
        """Let a stream's events begin, in a phase of its own."""
        self.opened += 1
        phase = self.opened * GOLDEN % 1
        self.add(stream, time.monotonic() + interval_s * phase)
        self.arm()

    def add(self, stream: "Connection", due_s: float) -> None:
        heapq.heappush(self.due, (due_s, next(self._order), stream))

    def arm(self) -> None:
        """Set the timer for the earliest stream."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self.due:
            wait_s = max(0.0, self.due[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.send_due)

    def send_due(self) -> None:
        """Send every event that is due."""
        now_s = time.monotonic()
        while self.due and self.due[0][0] <= now_s:
            due_s, _, stream = heapq.heappop(self.due)
            if stream.send_event():
                self.add(stream, due_s + stream.interval_s)
        self.arm()


class Connection(asyncio.Protocol):
    """One caller; its requests are answered one after the other."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.events_left = 0
        self.interval_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.path = b""
        self.body: list[bytes] = []
        self.pace = {b"mock_events": DEFAULT_EVENTS, b"mock_interval_us": DEFAULT_INTERVAL_US}
        self.asked_pace: dict[bytes, int] = {}

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name.startswith(b"x-mock-"):
            self.asked_pace[name[2:].replace(b"-", b"_")] = int(value)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        if self.parser.get_method() != b"POST":
            self.transport.write(self.told())
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.pace |= {name: int(number) for name, number in PACE.findall(body)}
            self.pace |= self.asked_pace
            self.transport.write(STREAM_HEAD + event())
            self.events_left = self.pace[b"mock_events"] - 1
            self.interval_s = max(1e-6, self.pace[b"mock_interval_us"] / 1e6)
            self.pacer.start(self, self.interval_s)
            return
        else:
            self.transport.write(answer(COMPLETION))
        if not self.parser.should_keep_alive():
            self.transport.close()

    def told(self) -> bytes:
        """Answer a GET."""
        match self.path:
            case b"/health":
                return answer(b"{}")
            case b"/version":
                return answer(b'{"version":"mock"}')
            case b"/v1/models":
                return answer(json.dumps(MODELS).encode())
            case b"/metrics":
                progress = time.monotonic_ns() // 1_000_000
                text = METRICS.format(running=len(self.pacer.due), progress=progress)
                return answer(text.encode(), kind="text/plain; version=0.0.4")
            case _:
                body = b'{"error":{"message":"the mock engine has no such path"}}'
                return answer(body, "404 Not Found")

    def send_event(self) -> bool:
        """Send the next event, or the end; True where more are to come."""
        if self.transport.is_closing():
            return False
        if self.events_left > 0:
            self.events_left -= 1
            self.transport.write(event())
            return True
        self.transport.write(chunk(STREAM_TAIL) + b"0\r\n\r\n")
        return False


async def serve(port: int) -> None:
    """Serve for ever."""
    pacer = Pacer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(pacer), "127.0.0.1", port, backlog=4096)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
