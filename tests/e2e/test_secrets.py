"""No secret comes out anywhere: a router in a process of its own, and all that is written of it.

Secrets are an administrator's token, Redis's password, a key for an engine, one for a collector,
callers' keys, what their digests are made with, and what callers ask. Looked through are its logs,
pages, metrics, errors, answers of administration, commands, spans, and what it keeps in Redis.
"""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis.asyncio import Redis

from engines.launch.child import child
from router.admin.page import files
from tests.canary import CANARY, secret
from tests.e2e.caller import ask, chat
from tests.e2e.running import until
from tests.e2e.traced import received
from tests.fakes.redis_server import redis_server
from tests.fakes.scripted import answering, scripted_engine

CONFIGURATION = """
[server]
port = {port}
access_log = "{folder}/requests"
log_level = "debug"
[admin]
token_file = "admin.token"
[redis]
url = "{redis}"
[access]
[tracing]
endpoint = "{collector}"
headers_env = "COLLECTORS_KEY"
[probes]
canary_s = "none"
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
endpoints = [{{ id = "p-0", engine = "openai", url = "{url}", api_key_env = "ENGINES_KEY" }}]
[[pools]]
name = "q"
profile = "throughput"
models = ["n"]
endpoints = [{{ id = "q-0", engine = "openai", url = "{url}" }}]
"""
PROMPT = [{"role": "user", "content": secret("prompt")}]
ECHOES = ("401 Unauthorized", "500 Broken", "400 Bad", "429 Slow Down", "200 OK")


async def careless(call):
    """Answer as the request's `user` says, with all that was sent in it."""
    status = json.loads(call.body).get("user", "200 OK")
    told = {"message": f"no: {call.head.decode()}", "type": "x", "code": None}
    if b'"stream":true' in call.body.replace(b" ", b""):
        await call.begin_stream()
        await call.say_chunk(b"data: %b\n\n" % json.dumps({"error": told}).encode())
        await call.end_stream()
        return
    body: dict[str, object] = {"choices": []} if status == "200 OK" else {"error": told}
    await call.say_json(json.dumps(body).encode(), status.encode())


@pytest.fixture
async def engine():
    async with scripted_engine(careless) as engine:
        yield engine


@pytest.fixture
async def collector():
    async with scripted_engine(answering(b"")) as collector:
        yield collector


@pytest.fixture
def redis(tmp_path):
    with redis_server(tmp_path, ("--requirepass", secret("redis"))) as started:
        yield started


@pytest.fixture
def configuration(engine, collector, redis, tmp_path, monkeypatch):
    """Write the configuration, and put secrets where it says that they are."""
    (tmp_path / "admin.token").write_text(secret("admin"))
    monkeypatch.setenv("HEADWAY_REDIS_PASSWORD", secret("redis"))
    monkeypatch.setenv("ENGINES_KEY", secret("engine"))
    monkeypatch.setenv("COLLECTORS_KEY", f"authorization=Bearer%20{secret('collector')}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("HEADWAY_ACCESS_PEPPER", secret("pepper"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "headway.toml"
    path.write_text(
        CONFIGURATION.format(
            port=port, folder=tmp_path, redis=redis.url, url=engine.url, collector=collector.url
        )
    )
    return path, port


async def made_key(port) -> str:
    """Have a caller's key made."""
    url = f"http://127.0.0.1:{port}/admin/v1/keys"
    headers = {"authorization": f"Bearer {secret('admin')}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30.0) as client:
        answer = await client.post(url, json={"tenant": "acme"})
    key: str = answer.json()["key"]
    return key


async def collect_answers(port, callers) -> AsyncIterator[tuple[str, bytes]]:
    """Ask in every way that a caller can; yield what comes back, less what the caller sent."""
    for model in ("m", "n"):
        for echo in ECHOES:
            document = {**chat(user=echo, model=model), "messages": PROMPT}
            for stream in (False, True):
                headers = {**callers, "x-sla-receipt": "1"}
                answer = await ask(port, {**document, "stream": stream}, headers)
                # An engine that is given the caller's own key may tell the caller so.
                if model == "m":
                    yield f"{echo}, {stream=}", repr(answer).encode()
    for name, broken in {
        "no JSON": b'{"model":"m","messages":"' + secret("prompt").encode(),
        "no model": json.dumps({"messages": PROMPT}).encode(),
        "unknown model": json.dumps({"model": "x", "messages": PROMPT}).encode(),
        "odd messages": json.dumps({"model": "m", "messages": {"a": PROMPT}}).encode(),
        "odd tool": json.dumps({"model": "m", "messages": PROMPT, "tools": PROMPT}).encode(),
    }.items():
        yield name, repr(await ask(port, broken, callers)).encode()
    known = await ask(port, {**chat(), "messages": PROMPT}, {**callers, "x-request-id": "known"})
    yield "known", repr(known.headers).encode()
    yield "odd header", repr(await ask(port, chat(), {**callers, "x-sla-class": "x"})).encode()
    yield "wrong key", repr(await ask(port, chat(), wrong_key(callers))).encode()
    yield "no route", repr(await ask(port, chat(), callers, path="/v1/x")).encode()


def wrong_key(callers):
    """Return a key of the same id with another secret."""
    shown = callers["authorization"]
    return {"authorization": shown[:-43] + secret("wrong").ljust(43, "x")}


async def collect_pages(port, callers) -> AsyncIterator[tuple[str, bytes]]:
    """Read every page that there is."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(
        base_url=url, headers=callers, trust_env=False, timeout=30.0
    ) as client:
        pages = ["/", "/metrics", "/readyz", "/healthz", "/v1/models", "/v1/models/m", "/x"]
        for path in (*pages, "/dashboard/", *(f"/dashboard/{name}" for name in files())):
            yield path, (await client.get(path)).content
        accept = {"accept": "application/openmetrics-text"}
        yield "/metrics as OpenMetrics", (await client.get("/metrics", headers=accept)).content


async def collect_administration(port, callers) -> AsyncIterator[tuple[str, bytes]]:
    """Ask administration all that can be asked, and change some of it."""
    url = f"http://127.0.0.1:{port}/admin/v1"
    token = {"authorization": f"Bearer {secret('admin')}"}
    wrong = {"authorization": f"Bearer {secret('wrong')}"}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as client:
        yield "wrong token", (await client.get(url + "/policy", headers=wrong)).content
        client.headers.update(token)
        explained = {"headers": callers, "body": {**chat(), "messages": PROMPT}}
        yield "explain", (await client.post("/explain", json=explained)).content
        patch = {"classes": {"interactive": {"max_wait_s": 2.0}}}
        change = await client.patch("/policy", json=patch, headers={"if-match": "*"})
        yield "patch", change.content
        fresh = {"id": "p-1", "engine": "openai", "url": "http://10.255.0.1:1"}
        named = {**fresh, "api_key_env": "ENGINES_KEY", "id": "p-2"}
        for each in (fresh, named, {**fresh, "api_key_env": "NO_SUCH"}):
            added = await client.post("/pools/p/endpoints", json=each)
            yield f"add {each}", added.content
        known = (await client.get("/openapi.json")).json()["paths"]
        fill = {"name": "p", "id": "p-0", "version": "1"}
        for path, methods in known.items():
            if "get" not in methods or path.endswith("/events"):
                continue
            names = {**fill, "id": "known"} if "/requests/" in path else fill
            answer = await client.get(f"http://127.0.0.1:{port}{path.format(**names)}")
            yield path, answer.content
        async with client.stream("GET", "/events") as events:
            async for part in events.aiter_bytes():
                yield "/events", part
                break


def commands(path, port) -> Iterator[tuple[str, bytes]]:
    """Run commands that show something."""
    url = f"http://127.0.0.1:{port}"
    admin = ["--url", url, "--token-file", str(path.parent / "admin.token")]
    for arguments in (
        ["check", str(path)],
        ["check", str(path), "--json"],
        ["status", *admin],
        ["pools", *admin],
        ["policy", "get", *admin],
        ["endpoints", "list", *admin],
    ):
        command = [sys.executable, "-m", "router", *arguments]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 # ourselves
        assert done.returncode == 0, done.stderr
        yield " ".join(arguments), done.stdout + done.stderr


async def collect_redis(redis) -> AsyncIterator[tuple[str, bytes]]:
    """Dump all that is kept."""
    client = Redis.from_url(redis.url, password=secret("redis"))
    async for key in client.scan_iter():
        yield f"Redis: {key.decode()}", await client.dump(key) or b""
    await client.aclose()


@pytest.mark.timeout(150)  # seven processes
async def test_no_secret_is_written_anywhere(configuration, collector, redis, tmp_path):
    path, port = configuration
    written: dict[str, bytes] = {}
    with child("router", ["serve", str(path)], tmp_path / "states") as running:
        running.wait_until_ready(f"http://127.0.0.1:{port}/readyz", 15.0)
        key = await made_key(port)
        callers = {"authorization": f"Bearer {key}"}
        for collect in (collect_answers, collect_pages, collect_administration):
            written.update([each async for each in collect(port, callers)])
        written.update(commands(path, port))
        written.update([each async for each in collect_redis(redis)])
        await until(lambda: bool(received(collector).requests))
    written["log of states"] = (tmp_path / "states").read_bytes()
    written["log of requests"] = (tmp_path / "requests").read_bytes()

    written["spans"] = b"".join(call.body for call in collector.calls)

    assert len(written["log of requests"].splitlines()) > 20
    assert collector.calls[0].header("authorization") == f"Bearer {secret('collector')}"
    assert b"attempt failed" in written["log of states"]
    assert [name for name, text in written.items() if CANARY.encode() in text] == []
    assert [name for name, text in written.items() if key[-43:].encode() in text] == []
    assert [name for name, text in written.items() if not text] == []
