"""HTTPS from callers and to engines, with certificates of an authority made for the test."""

import asyncio
import os
import signal
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import httpx
import pytest
import trustme

from engines.launch.child import child
from router.settings import Admin, CallersTls, Limits, Tls, TlsVersion
from tests.e2e.caller import ask, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, scripted_engine, streaming

OK = answering(b'{"choices":[]}')


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger():
    return trustme.CA()


@pytest.fixture
def ours(authority, tmp_path):
    """Return the settings of a router with a certificate."""
    return certified(authority, tmp_path)


def certified(authority, folder, **more):
    """Write a certificate for the router, and return the settings that name it."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return CallersTls(folder / "cert.pem", folder / "key.pem", **more)


def trusting(authority, issued=None):
    """Return a caller's context."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if issued is not None:
        issued.configure_cert(context)
    return context


@asynccontextmanager
async def connected(router, context):
    """Connect to a router by TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def asked(router, context, document=None):
    """Ask over HTTPS."""
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return await client.post(f"{router.url}/v1/chat/completions", json=document or chat())


async def test_callers_are_served_over_https(ours, authority):
    events = streaming(b'{"choices":[{"delta":{"content":"a"}}]}')
    async with (
        scripted_engine(OK, events) as engine,
        serving(pool("p", engine), tls=ours) as router,
    ):
        whole = await asked(router, trusting(authority))
        stream = await asked(router, trusting(authority), chat(stream=True))
        async with httpx.AsyncClient(verify=trusting(authority), trust_env=False) as client:
            page = await client.get(f"{router.url}/")

    assert (whole.status_code, whole.content) == (200, b'{"choices":[]}')
    assert stream.text.endswith("data: [DONE]\n\n")
    assert page.json()["openai_base_url"] == f"{router.url}/v1"


async def test_who_speaks_http_to_https_is_let_go_of(ours):
    async with scripted_engine(OK) as engine, serving(pool("p", engine), tls=ours) as router:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(request(chat()))
        try:
            heard = await reader.read()
        except ConnectionError:
            heard = b""
        writer.close()

    assert not heard.startswith(b"HTTP/")
    assert engine.calls == []


async def test_a_handshake_that_does_not_come_is_not_waited_for(ours):
    limits = Limits(header_timeout_s=0.2)
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine), tls=ours, limits=limits) as router,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(b"\x16\x03\x01")
        try:
            heard = await reader.read()
        except ConnectionError:
            heard = b""
        writer.close()

    assert heard == b""


async def test_a_version_older_than_is_allowed_is_refused(authority, tmp_path):
    newest = certified(authority, tmp_path, min_version=TlsVersion.TLS_1_3)
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with scripted_engine(OK) as engine, serving(pool("p", engine), tls=newest) as router:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(router, context):
                pass


async def test_callers_need_a_certificate_where_the_router_says_so(authority, stranger, tmp_path):
    both = certified(authority, tmp_path, client_ca_file=tmp_path / "ca.pem")
    known = trusting(authority, authority.issue_cert("caller"))
    unknown = trusting(authority, stranger.issue_cert("caller"))
    async with scripted_engine(OK) as engine, serving(pool("p", engine), tls=both) as router:
        served = await asked(router, known)
        for context in (trusting(authority), unknown):
            with pytest.raises(httpx.TransportError):
                await asked(router, context)

    assert served.status_code == 200
    assert len(engine.calls) == 1


async def test_a_renewed_certificate_is_shown_to_whoever_connects_next(ours, authority, tmp_path):
    async with scripted_engine(OK) as engine, serving(pool("p", engine), tls=ours) as router:
        async with connected(router, trusting(authority)) as (reader, writer):
            before = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
            certified(authority, tmp_path)
            router.router.renew_certificates()
            writer.write(request(chat()))
            kept = await reader.readuntil(b'{"choices":[]}')
        async with connected(router, trusting(authority)) as (_, writer):
            after = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]

    assert kept.startswith(b"HTTP/1.1 200 ")
    assert before != after


async def test_a_renewal_that_cannot_be_used_is_told_and_changes_nothing(ours, authority, caplog):
    async with scripted_engine(OK) as engine, serving(pool("p", engine), tls=ours) as router:
        ours.key_file.write_text("half a file")
        router.router.renew_certificates()
        served = await asked(router, trusting(authority))

    assert served.status_code == 200
    assert "certificates cannot be renewed" in caplog.messages
    assert "half a file" not in caplog.text


async def test_administrations_own_port_speaks_tls_as_well(ours, authority):
    admin = Admin(port=0)
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine), tls=ours, admin=admin) as router,
    ):
        administration = router.router.administration
        assert administration
        listening = administration._listening
        assert listening
        await until(lambda: listening.started)
        port = listening.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(verify=trusting(authority), trust_env=False) as client:
            answer = await client.get(f"https://127.0.0.1:{port}/admin/v1/policy")

    assert answer.status_code == 401


# to engines


@pytest.fixture
def engines_tls(authority):
    """Return an engine's context, which wants a certificate of whoever asks."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("gpu.internal").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def mutual(authority, folder, **more):
    """Write a certificate for the router to show, and return the settings that name it."""
    issued = authority.issue_cert("headway")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "router.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return Tls(
        ca_file=folder / "ca.pem",
        cert_file=folder / "router.pem",
        **{"server_name": "gpu.internal", **more},
    )


async def test_router_and_engine_know_each_other(authority, engines_tls, tmp_path):
    tls = mutual(authority, tmp_path)
    async with scripted_engine(OK, tls=engines_tls) as engine:
        of_the_pool = replace(pool("p", engine), tls=tls)
        plain = pool("p", engine)
        of_the_endpoint = replace(plain, endpoints=(replace(plain.endpoints[0], tls=tls),))
        for each in (of_the_pool, of_the_endpoint):
            async with serving(each) as router:
                served = await ask(router.port, chat())
                discovered = router.router._discoveries
                await until(partial(discovered.__contains__, "p-0"))

            assert served.status == 200


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"cert_file": None}, id="no certificate is shown"),
        pytest.param({"server_name": "other.internal"}, id="another name"),
        pytest.param({"server_name": None}, id="the address, which it does not name"),
        pytest.param({"ca_file": None}, id="an authority that is not known"),
    ],
)
async def test_an_engine_that_is_another_or_takes_the_router_for_one_is_not_asked(
    authority, engines_tls, tmp_path, change
):
    tls = replace(mutual(authority, tmp_path), **change)
    async with (
        scripted_engine(OK, tls=engines_tls) as engine,
        serving(replace(pool("p", engine), tls=tls)) as router,
    ):
        answer = await ask(router.port, chat())

    assert answer.status in {502, 503}
    assert engine.calls == []


async def test_a_stranger_in_an_engines_place_hears_nothing(authority, stranger, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    stranger.issue_cert("gpu.internal").configure_cert(context)
    async with (
        scripted_engine(OK, tls=context) as engine,
        serving(replace(pool("p", engine), tls=mutual(authority, tmp_path))) as router,
    ):
        answer = await ask(router.port, chat(), {"authorization": "Bearer secret"})

    assert answer.status == 503
    assert engine.calls == []


# the whole of it


SERVED = """
[server]
port = {port}
tls = {{ cert_file = "cert.pem", key_file = "key.pem" }}
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
endpoints = [{{ engine = "openai", url = "{url}" }}]
"""


@pytest.fixture
def taken():
    """Return a socket that has a port of its own."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


async def served_certificate(port, context):
    """Return the number of the certificate that a router shows; None where nobody listens."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except ConnectionError:
        return None
    number = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.transport.abort()
    return number


@pytest.mark.timeout(60)  # a process of its own, that looks at its files now and then
async def test_a_router_serves_https_and_sees_by_itself_that_its_certificate_is_renewed(
    ours, authority, tmp_path, taken
):
    port = taken.getsockname()[1]
    taken.close()
    context = trusting(authority)
    async with scripted_engine(OK) as engine:
        path = tmp_path / "headway.toml"
        path.write_text(SERVED.format(port=port, url=engine.url))
        with child("router", ["serve", str(path)], tmp_path / "states") as running:
            while (first := await served_certificate(port, context)) is None:
                running.must_run()
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                url = f"https://127.0.0.1:{port}/v1/chat/completions"
                answer = await client.post(url, json=chat())
            certified(authority, tmp_path)
            while await served_certificate(port, context) == first:
                running.must_run()
            os.kill(running.pid, signal.SIGTERM)
            while running.exit_code is None:
                await asyncio.sleep(0.01)

    assert answer.status_code == 200
    assert running.exit_code == 0
    assert "certificates renewed" in (tmp_path / "states").read_text()


@pytest.mark.timeout(60)  # a process of its own
async def test_a_port_that_is_taken_is_told(ours, tmp_path, taken):
    taken.listen()
    path = tmp_path / "headway.toml"
    path.write_text(SERVED.format(port=taken.getsockname()[1], url="http://127.0.0.1:9"))
    with child("router", ["serve", str(path)], tmp_path / "states") as running:
        while running.exit_code is None:
            await asyncio.sleep(0.01)

    assert running.exit_code not in {0, None}
    assert "cannot listen" in (tmp_path / "states").read_text()
