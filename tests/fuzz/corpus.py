"""What the fuzzer begins with: requests and answers that are right, each for another reason."""

import json

from engines.engine import Route

CHAT = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "héllo"}], "stream": True, "n": 1}
).encode()
EVERYTHING = (
    b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},'
    b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}],'
    b'"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],'
    b'"tool_choice":"required","response_format":{"type":"json_schema","json_schema":{}},'
    b'"service_tier":"flex","priority":-3,"logprobs":true,"top_logprobs":9,"stop":["a","b"]}'
)
BODIES: dict[Route, list[bytes]] = {
    Route.CHAT: [
        CHAT,
        EVERYTHING,
    ],
    Route.COMPLETIONS: [
        b'{"model":"m","prompt":["a","b"],"max_tokens":5,"n":2,"best_of":3,"echo":true}',
        b'{"model":"m","prompt":[1,2,3],"suffix":"x","stream":false}',
    ],
    Route.EMBEDDINGS: [b'{"model":"m","input":["a","b"]}'],
    Route.RESPONSES: [b'{"model":"m","input":[{"role":"user","content":"a"}],"stream":true}'],
    Route.MESSAGES: [
        b'{"model":"m","max_tokens":9,"system":"s","messages":[{"role":"user","content":"a"}]}'
    ],
    Route.COUNT_TOKENS: [b'{"model":"m","messages":[{"role":"user","content":"a"}]}'],
    Route.RERANK: [b'{"model":"m","query":"q","documents":["a",{"text":"b"}]}'],
    Route.SCORE: [b'{"model":"m","text_1":"a","text_2":["b"]}'],
    Route.TOKENIZE: [b'{"model":"m","prompt":"a"}'],
    Route.DETOKENIZE: [b'{"model":"m","tokens":[1,2]}'],
}
HEADERS = [
    b"host: r", b"content-type: application/json", b"authorization: Bearer k",
    b"x-sla-class: interactive", b"x-sla-ttft-ms: 300", b"x-sla-deadline-ms: 9000",
    b"x-sla-on-miss: reject", b"x-sla-queue: never", b"x-sla-receipt: 1", b"x-request-id: a-b",
    b"priority: u=2, i", b"prefer: wait=5, respond-async", b"grpc-timeout: 3S",
    b"x-stainless-read-timeout: 60.0", b"x-vllm-priority: -2", b"x-tenant-id: t",
    b"x-session-id: s", b"accept: */*", b"connection: keep-alive", b"expect: 100-continue",
    b"connection: close", b"upgrade: h2c", b"te: trailers", b"user-agent: x/1",
]  # fmt: skip
SMUGGLED = b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n\r\n{}"


def _request(route: Route, body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST %b HTTP/%b" % (route.encode(), version), b"host: r", *headers]
    return b"\r\n".join((*lines, b"content-length: %d" % len(body), b"", body))


def _chunked(route: Route, *parts: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n" % route.encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


REQUESTS: list[bytes] = [
    *(_request(route, body) for route, bodies in BODIES.items() for body in bodies),
    *(_request(Route.CHAT, CHAT, header) for header in HEADERS[1:]),
    _request(Route.CHAT, CHAT, b"connection: Upgrade", b"upgrade: h2c"),
    _request(Route.CHAT, CHAT, version=b"1.0"),
    _request(Route.CHAT, SMUGGLED),
    _chunked(Route.CHAT, CHAT[:10], CHAT[10:]),
    _chunked(Route.COMPLETIONS, SMUGGLED),
    b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n",
    b"GET http://r/v1/models?a=b HTTP/1.1\r\nhost: r\r\naccept: */*\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: r\r\n\r\n",
    b"CONNECT r:80 HTTP/1.1\r\nhost: r:80\r\n\r\n",
    b"CONNECT /v1/models HTTP/1.1\r\nhost: r\r\n\r\n",
    b"DELETE /v1/files/1 HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n",
]
"""Whole requests, one each."""

_EVENTS = b'data: {"id":"1","choices":[{"delta":{"content":"a"}}]}\n\n'
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
ANSWERS: list[bytes] = [
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{"ok":1}',
    _STREAM + b"transfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(_EVENTS), _EVENTS) * 2 + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    _STREAM + b'transfer-encoding: chunked\r\n\r\n5\r\ndata:\r\na\r\n{"error":1\r\n0\r\nx-sum: 1\r\n\r\n',
    _STREAM + b"\r\n" + _EVENTS,
    b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b'HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 13\r\n\r\n{"error":"x"}',
    b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy",
    b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-a\r\nx-a: 1\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
]  # fmt: skip
"""Whole answers, one each."""
