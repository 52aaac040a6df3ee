"""Revisions in Redis, shared by every replica: two writers never lose an update.

One script compares the version and appends, so whichever comes second is told so; one script reads,
so that nothing comes in between. How durable an
acknowledged change is, is Redis's own affair: see `appendonly` and `appendfsync`.
"""

from dataclasses import asdict
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError

from router.admin.revisions import KEPT, NotStored, Revision, Superseded
from router.replicas.redis import Client

_REVISION: Final = TypeAdapter(Revision)
_APPEND: Final = """
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) - 1 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""
_READ: Final = """
local fresh = tonumber(redis.call('GET', KEYS[2]) or '0') - math.max(0, tonumber(ARGV[1]))
if fresh <= 0 then return {} end
return redis.call('LRANGE', KEYS[1], -math.min(fresh, tonumber(ARGV[2])), -1)
"""


class RedisStore:
    """One document's revisions under two keys of one hash slot."""

    def __init__(self, client: Client, prefix: str, name: str) -> None:
        self._client = client
        self._list = f"{{{prefix}:{name}}}:revisions"
        self._latest = f"{{{prefix}:{name}}}:version"

    async def read(self, after: int = -1) -> list[Revision]:
        """See `Store`."""
        lines = await self._ask("EVAL", _READ, 2, self._list, self._latest, after, KEPT)
        try:
            revisions = [_REVISION.validate_json(line) for line in lines]
        except ValidationError as error:
            message = f"redis key {self._list!r} holds what is no revision; mend it or delete it"
            raise NotStored(message) from error
        return revisions

    async def append(self, revision: Revision) -> None:
        """See `Store`. Where Redis goes silent meanwhile it may be there after all."""
        line = orjson.dumps(asdict(revision))
        keys = (self._list, self._latest)
        if not await self._ask("EVAL", _APPEND, 2, *keys, revision.version, line, KEPT):
            raise Superseded

    async def _ask(self, *words: object) -> Any:
        try:
            return await self._client.execute_command(*words)
        except (RedisError, OSError) as error:
            said = str(error) or type(error).__name__
            message = f"redis failed: {said}; see to [redis], and look at the history before again"
            raise NotStored(message) from error
