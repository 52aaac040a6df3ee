"""The board in a Redis: one script call an exchange, so that each is atomic and one round trip.

Keys are `{prefix}:leases`, `{prefix}:texts` and `{prefix}:board`; the braces keep all of them in
one hash slot of a cluster. They expire when nobody has come for a while.
"""

from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import orjson
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from router.replicas.board import LIFE_S, BoardFailed, View, Word
from router.replicas.line import Line

SCRIPT: Final = (Path(__file__).parent / "board.lua").read_bytes()
DIGEST: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()
"""The name that Redis knows the script by."""
SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379


class Client(Protocol):
    """What is used of a client; one server's and a cluster's are alike in it."""

    async def execute_command(self, *words: Any) -> Any:
        """Send one command and return its answer."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class RedisBoard:
    """See `board.Board`. `clock`: the board's time; None: the server's own."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        life_s: float = LIFE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._keys = tuple(f"{{{prefix}}}:{name}" for name in ("leases", "texts", "board"))
        self._life_ms = int(1000 * life_s)
        self._clock = clock

    async def exchange(self, word: Word) -> View:
        """See `Board`."""
        claims = [(name, each.keep, each.want, each.cap) for name, each in word.claims.items()]
        now_ms = "" if self._clock is None else str(int(1000 * self._clock()))
        given = (self._life_ms, word.replica, word.number, word.text, orjson.dumps(claims), now_ms)
        answer = await self._run(given)
        try:
            now_ms, cautious, permits, texts = answer
            return View(
                now_ms / 1000,
                _by_name(texts),
                dict(zip(word.claims, permits, strict=True)),
                cautious=bool(cautious),
            )
        except (TypeError, ValueError) as error:
            raise BoardFailed(f"redis answered what is no view: {answer!r:.200}") from error

    async def look(self) -> View:
        """See `Board`."""
        seconds, micros = await self._ask("TIME")
        now_s = int(seconds) + int(micros) / 1e6 if self._clock is None else self._clock()
        leases = _by_name(await self._ask("HGETALL", self._keys[0]))
        texts = _by_name(await self._ask("HGETALL", self._keys[1]))
        born = await self._ask("HGET", self._keys[2], "born")
        heard_ms = {name: orjson.loads(lease)[1] for name, lease in leases.items()}
        alive = {
            name: text
            for name, text in texts.items()
            if 1000 * now_s - heard_ms.get(name, 0) < self._life_ms
        }
        young = born is None or 1000 * now_s - int(born) < self._life_ms
        return View(now_s, alive, {}, cautious=young)

    async def leave(self, replica: str) -> None:
        """See `Board`."""
        for key in self._keys[:2]:
            await self._ask("HDEL", key, replica)

    async def close(self) -> None:
        """See `Board`."""
        try:
            await self._client.aclose()
        except (RedisError, OSError) as error:
            raise BoardFailed(f"redis: {_said(error)}") from error

    async def _run(self, given: Sequence[object]) -> Any:
        try:
            return await self._ask("EVALSHA", DIGEST, len(self._keys), *self._keys, *given)
        except _UnknownScript:
            # A server that was restarted or flushed; EVAL teaches it.
            return await self._ask("EVAL", SCRIPT, len(self._keys), *self._keys, *given)

    async def _ask(self, *words: object) -> Any:
        try:
            return await self._client.execute_command(*words)
        except NoScriptError as error:
            raise _UnknownScript("redis does not know the script") from error
        except (RedisError, OSError) as error:
            raise BoardFailed(f"redis: {_said(error)}") from error


class _UnknownScript(BoardFailed):
    """The server has to be told the script."""


class _Watched:
    """A line to a master, and the sentinels that know which one it is."""

    def __init__(self, master: Line, sentinels: Sequence[Client]) -> None:
        self.execute_command = master.execute_command
        self._all = (master, *sentinels)

    async def aclose(self) -> None:
        for each in self._all:
            await each.aclose()


def connect(url: str, password: str | None, *, limit_s: float) -> Client:
    """Return a client for any URL that `urls.redis_url` lets pass; nothing is connected yet.

    `limit_s` bounds every connection and answer. Nothing is tried twice: the next exchange comes
    soon enough, and says more.
    """
    options: dict[str, Any] = {
        "password": password,
        # A line times its commands as a whole.
        "socket_timeout": None,
        "socket_connect_timeout": limit_s,
        "protocol": 2,
    }
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    no_retry = Retry(NoBackoff(), 0)
    if not kind:
        plain = Redis.from_url(url, retry=no_retry, max_connections=2, **options)
        return Line(plain, limit_s)
    parts = urlsplit(url)
    names, _, addresses = parts.netloc.rpartition("@")
    if names:
        options["username"] = names
    if scheme == "rediss":
        options["ssl"] = True
        options |= dict(parse_qsl(parts.query))
    if kind == "cluster":
        nodes = [ClusterNode(*each) for each in _hosts(addresses, REDIS_PORT)]
        options.pop("protocol")
        options["socket_timeout"] = limit_s
        return cast("Client", RedisCluster(startup_nodes=nodes, retry=no_retry, **options))
    service, _, db = parts.path.strip("/").partition("/")
    # The sentinels have no secret of ours, but are waited for as briefly.
    asked = {"socket_timeout": limit_s, "socket_connect_timeout": limit_s}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call] # the library's own gap
        _hosts(addresses, SENTINEL_PORT), sentinel_kwargs=asked
    )
    master = sentinel.master_for(service, db=int(db or 0), retry=no_retry, **options)
    return _Watched(Line(master, limit_s), [*sentinel.sentinels])


def _hosts(addresses: str, port: int) -> list[tuple[str, int]]:
    parts = [urlsplit(f"//{address}") for address in addresses.split(",")]
    return [(each.hostname or "", each.port or port) for each in parts]


def _by_name(answer: Any) -> dict[str, bytes]:
    """Return a hash, which one protocol answers as a list and another as a map."""
    if isinstance(answer, dict):
        pairs = list(answer.items())
    else:
        pairs = list(zip(answer[::2], answer[1::2], strict=True))
    return {name.decode(): value for name, value in pairs}


def _said(error: Exception) -> str:
    if "unauthenticated" in str(error):
        # So Redis answers a long command from a stranger.
        return "Authentication required; set redis.password_file or HEADWAY_REDIS_PASSWORD"
    return f"{type(error).__name__}: {error}".removesuffix(": ")
