"""The issuer's keys as they are followed: over a real socket, and in a file."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from router.access.issuer import MOST_BYTES, Issuer
from router.access.keyring import Failure, Keyring, Pass
from router.access.tokens import Tokens
from tests.e2e.running import until
from tests.fakes.http_engine import GARBAGE, HANG_UP, SILENCE, Answer, HttpEngine
from tests.fakes.identity import Identity, jwks, settings

NOW = 1_800_000_000.0
PATH = "/keys"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def issuer_at(source, clock=None, read_s=5.0, **more):
    said = settings(jwks=source, **more)
    clock = clock or Clock()
    tokens = Tokens(said, Keyring(b"", {}), clock)
    return Issuer(said, tokens, clock=clock, wall_clock=lambda: NOW, read_s=read_s)


@asynccontextmanager
async def published(identity):
    server = HttpEngine({PATH: Answer(identity.jwks)})
    async with server.listening():
        yield server


def opens(issuer, token):
    return isinstance(issuer.tokens.find(token.encode(), NOW), Pass)


async def test_keys_are_read_from_a_url_and_followed_as_they_come_and_go():
    identity = Identity()
    async with published(identity) as server:
        issuer = issuer_at(server.url + PATH)
        first = identity.token(NOW)
        before = opens(issuer, first)
        await issuer.refresh()
        read = opens(issuer, first)
        identity.publish("second", number=1)
        del identity.keys["first"]
        server.answers[PATH] = Answer(identity.jwks)
        await issuer.refresh()

    assert (before, read) == (False, True)
    assert not opens(issuer, first)
    assert opens(issuer, identity.token(NOW, "second"))
    assert (issuer.reads, issuer.failures) == (2, 0)


FAILURES = {
    "gone": (Answer(b"no", 404), "404"),
    "broken": (Answer(b"", 500), "500"),
    "elsewhere": (Answer(b"", 302), "302"),
    "hung up": (HANG_UP, "RemoteProtocolError"),
    "no HTTP": (GARBAGE, "RemoteProtocolError"),
    "silent": (SILENCE, "no answer in 0.05 s"),
    "a page": (Answer(b"<html>"), "not JSON"),
    "another document": (Answer(b'{"issuer": "x"}'), "no JWKS"),
    "huge": (Answer(b" " * (MOST_BYTES + 1)), f"larger than {MOST_BYTES} bytes"),
    "too many": (Answer(jwks(*[{}] * 65)), "holds 65 keys"),
}


@pytest.mark.parametrize(("answer", "said"), FAILURES.values(), ids=FAILURES)
async def test_whatever_comes_in_place_of_keys_the_last_known_ones_stay(answer, said, caplog):
    identity, clock = Identity(), Clock()
    async with published(identity) as server:
        issuer = issuer_at(server.url + PATH, clock)
        await issuer.refresh()
        server.answers[PATH] = answer
        if answer is SILENCE:
            issuer._read_s = 0.05
        for _ in range(3):
            clock.now += 10.0
            await issuer.refresh()

    assert opens(issuer, identity.token(NOW))
    assert (issuer.reads, issuer.failures, issuer.age_s) == (1, 3, 30.0)
    (told,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert said in told.reason


async def test_a_server_that_is_not_there_is_told_once_and_so_is_its_return(caplog):
    caplog.set_level("INFO")
    identity = Identity()
    async with published(identity) as server:
        url = server.url + PATH
    issuer = issuer_at(url)
    for _ in range(2):
        await issuer.refresh()
    async with published(identity) as server:
        issuer._settings = settings(jwks=server.url + PATH)
        await issuer.refresh()

    assert [each.getMessage() for each in caplog.records if each.name == "headway.access"] == [
        "jwks cannot be read; the last known keys stay",
        "jwks changed",
        "jwks read again",
    ]
    assert opens(issuer, identity.token(NOW))


async def test_an_issuer_that_publishes_no_keys_any_more_has_none(caplog):
    identity = Identity()
    async with published(identity) as server:
        issuer = issuer_at(server.url + PATH)
        await issuer.refresh()
        opened = opens(issuer, identity.token(NOW))
        server.answers[PATH] = Answer(jwks())
        await issuer.refresh()

    assert opened
    assert not opens(issuer, identity.token(NOW))
    (told,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert (told.keys, told.tokens_void) == (0, 1)


async def test_keys_that_are_left_out_are_told_by_their_place(caplog):
    caplog.set_level("INFO")
    async with published(Identity()) as server:
        server.answers[PATH] = Answer(jwks({"kty": "oct", "k": "c2VjcmV0"}))
        await issuer_at(server.url + PATH).refresh()

    (told,) = [each for each in caplog.records if each.getMessage() == "jwks changed"]
    assert told.left_out.startswith("keys[0]: is no public key")
    assert "c2VjcmV0" not in told.left_out


async def test_keys_may_be_in_a_file(tmp_path):
    identity, path = Identity(), tmp_path / "jwks.json"
    path.write_bytes(identity.jwks)
    issuer = issuer_at(str(path))
    await issuer.refresh()
    read = opens(issuer, identity.token(NOW))
    path.write_bytes(b" " * (MOST_BYTES + 1))
    await issuer.refresh()
    path.unlink()
    await issuer.refresh()

    assert read
    assert opens(issuer, identity.token(NOW))
    assert (issuer.reads, issuer.failures) == (1, 2)


@asynccontextmanager
async def running(issuer):
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(issuer.run())
        yield
        task.cancel()


async def test_a_token_of_a_key_that_is_not_known_has_the_keys_read_once_and_not_again_at_once():
    identity, clock = Identity(), Clock()
    async with published(identity) as server:
        issuer = issuer_at(server.url + PATH, clock, refresh_s=3600.0)
        await issuer.refresh()
        identity.publish("second", number=1)
        server.answers[PATH] = Answer(identity.jwks)
        token = identity.token(NOW, "second")
        async with running(issuer):
            assert issuer.tokens.find(token.encode(), NOW) is Failure.UNKNOWN_SIGNER
            await until(lambda: issuer.reads == 2)
            assert opens(issuer, token)
            for number in range(50):
                unknown = identity.token(NOW, "second", {"kid": str(number)})
                issuer.tokens.find(unknown.encode(), NOW)
                await asyncio.sleep(0)
            # All that the loop could do, it has done: it waits until a wish is heard again.
            await server_is_left_alone(server)

        assert server.asked[PATH] == 2


async def server_is_left_alone(server):
    """Have the loop turn often enough for a whole exchange, had one begun."""
    reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
    for _ in range(20):
        writer.write(b"GET /other HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"no such path")
    writer.close()


async def test_keys_are_read_again_on_an_interval_and_expired_tokens_forgotten():
    identity = Identity()
    async with published(identity) as server:
        loop = asyncio.get_running_loop()
        issuer = issuer_at(server.url + PATH, loop.time, refresh_s=0.01)
        issuer._wall_clock = lambda: NOW + 3600 + 31
        await issuer.refresh()
        assert opens(issuer, identity.token(NOW))
        async with running(issuer):
            await until(lambda: issuer.reads >= 4)

    assert issuer.tokens.known == 0


async def test_a_reading_that_breaks_is_not_the_last_one(caplog):
    async with published(Identity()) as server:
        issuer = issuer_at(server.url + PATH)
        issuer._certificates = 7
        await issuer.refresh()
        issuer._certificates = None
        await issuer.refresh()

    assert (issuer.reads, issuer.failures) == (1, 1)
    assert "jwks broke" in caplog.text


class TlsServer(HttpEngine):
    """The same, behind a certificate."""

    @asynccontextmanager
    async def certified(self, context):
        async def serve(reader, writer):
            try:
                while await self._exchange(reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()


async def test_an_issuer_is_believed_only_where_its_certificate_is_of_an_authority_that_is_trusted(
    tmp_path,
):
    ca, identity = trustme.CA(), Identity()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = TlsServer({PATH: Answer(identity.jwks)})
    async with server.certified(context):
        trusting = issuer_at(server.url + PATH, ca_file=tmp_path / "ca.pem")
        doubting = issuer_at(server.url + PATH)
        for _ in range(2):
            await trusting.refresh()
        await doubting.refresh()

    assert (trusting.reads, trusting.failures) == (2, 0)
    assert (doubting.reads, doubting.failures) == (0, 1)
    assert opens(trusting, identity.token(NOW))
    assert not opens(doubting, identity.token(NOW))
