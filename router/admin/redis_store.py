"""Revisions in Redis, shared by every replica: two writers never lose an update.

One script compares the version and appends, so whichever comes second is told so. How durable an
acknowledged change is, is Redis's own affair: see `appendonly` and `appendfsync`.
"""

from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, Final, cast

import orjson
from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from router.admin.revisions import KEPT, NotStored, Revision, Superseded

_REVISION = TypeAdapter(Revision)
_APPEND: Final = """
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) - 1 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""


class RedisStore:
    """One document's revisions under two keys of one hash slot."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._list = f"{{headway:{name}}}:revisions"
        self._latest = f"{{headway:{name}}}:version"

    async def read(self, after: int = -1) -> list[Revision]:
        """See `Store`."""
        try:
            latest = int(await self._redis.get(self._latest) or 0)
            if latest <= after:
                return []
            most = KEPT if after < 0 else min(KEPT, latest - after)
            lines = await cast("Awaitable[list[bytes]]", self._redis.lrange(self._list, -most, -1))
        except (RedisError, OSError) as error:
            raise _failed(error) from error
        revisions = [_REVISION.validate_json(line) for line in lines]
        return [each for each in revisions if each.version > after]

    async def append(self, revision: Revision) -> None:
        """See `Store`."""
        arguments: list[Any] = [revision.version, orjson.dumps(asdict(revision)), KEPT]
        try:
            stored = await cast(
                "Awaitable[int]",
                self._redis.eval(_APPEND, 2, self._list, self._latest, *arguments),
            )
        except (RedisError, OSError) as error:
            raise _failed(error) from error
        if not stored:
            raise Superseded


def _failed(error: Exception) -> NotStored:
    return NotStored(f"redis failed: {error}; see to [redis]")
