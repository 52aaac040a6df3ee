"""Keys in Redis, shared by every replica: one script a change, so that none is lost.

`{prefix}:keys` holds them by id, `{prefix}:keys:order` when each was changed last, by the number
that `{prefix}:keys:latest` counts. The braces keep all in one hash slot of a cluster.
"""

from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from policies.keys import Key
from router.access.store import KeysNotKept, Overtaken, read_key, written

_WRITE: Final = """
local kept = redis.call('HGET', KEYS[1], ARGV[1])
local revision = kept and cjson.decode(kept).revision or 0
if revision ~= tonumber(ARGV[3]) - 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
return 1
"""


class Client(Protocol):
    """What is used of a client of Redis."""

    async def execute_command(self, *words: Any) -> Any:
        """Send one command and return its answer."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class RedisKeys:
    """See `KeyStore`."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._keys = tuple(f"{{{prefix}}}:keys{part}" for part in ("", ":order", ":latest"))

    async def read(self, after: int) -> tuple[int, list[Key]]:
        """See `KeyStore`; where Redis was emptied, what it holds since is all there is."""
        keys, order, latest = self._keys
        number = int(await self._ask("GET", latest) or 0)
        if number == after:
            return number, []
        least = f"({after}" if number > after else "-inf"
        ids = await self._ask("ZRANGEBYSCORE", order, least, "+inf")
        if not ids:
            return number, []
        lines = await self._ask("HMGET", keys, *ids)
        return number, [read_key(line, f"redis key {keys!r}") for line in lines if line]

    async def write(self, key: Key) -> None:
        """See `KeyStore`."""
        words = (key.id, written(key), key.revision)
        if not await self._ask("EVAL", _WRITE, len(self._keys), *self._keys, *words):
            raise Overtaken(key.id)

    async def _ask(self, *words: object) -> Any:
        try:
            return await self._client.execute_command(*words)
        except (RedisError, OSError) as error:
            raise KeysNotKept(f"redis failed: {error}; see to [redis]") from error
