"""Makes keys, changes and revokes them, and follows what other replicas do with them."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from policies.keys import Key, Proof
from router.access import secret
from router.access.keyring import Keyring
from router.access.store import KeysNotKept, KeyStore, Overtaken

logger = logging.getLogger("headway.access")
FOLLOW_S: Final = 0.2
"""How often changes of others are looked for; the promise is a second."""


class NoSuchKey(Exception):
    """No key has the id."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"no key {id_!r}; GET /admin/v1/keys lists them")


class Office:
    """Where keys are made. A secret is known here only while it is being made."""

    def __init__(
        self, store: KeyStore, keyring: Keyring, pepper: bytes, wall_clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._pepper = pepper
        self._wall_clock = wall_clock
        self._latest = 0
        self._following = asyncio.Lock()

    async def issue(self, key: Key) -> tuple[Key, str]:
        """Make a key with what is said of it; return it and its text, which is kept nowhere."""
        id_ = secret.new_id()
        text = secret.new_text(id_)
        made = replace(
            key, id=id_, proofs=(self._proof(text),), created_at_s=self._wall_clock(), revision=1
        )
        await self._keep(made)
        return made, text

    async def rotate(self, id_: str, overlap_s: float) -> tuple[Key, str]:
        """Give a key another secret; the one before opens for `overlap_s` more."""
        key = await self.find(id_)
        text, now = secret.new_text(id_), self._wall_clock()
        before = tuple(
            replace(each, until_s=min(now + overlap_s, each.until_s or now + overlap_s))
            for each in key.proofs[:1]
            if overlap_s > 0
        )
        return await self.change(replace(key, proofs=(self._proof(text), *before))), text

    async def revoke(self, id_: str) -> Key:
        """Make a key void, for good; a change that crosses it does not undo it."""
        while True:
            key = await self.find(id_)
            if key.revoked_at_s is not None:
                return key
            try:
                return await self.change(replace(key, revoked_at_s=self._wall_clock()))
            except Overtaken:
                await self.follow()

    async def change(self, key: Key) -> Key:
        """Keep a key that was found and changed; raises `Overtaken`."""
        changed = replace(key, revision=key.revision + 1)
        await self._keep(changed)
        return changed

    async def find(self, id_: str) -> Key:
        """Return a key as it is kept; raises `NoSuchKey`."""
        await self.follow()
        if id_ not in self._keyring.keys:
            raise NoSuchKey(id_)
        return self._keyring.keys[id_]

    async def all(self) -> list[Key]:
        """Return every key, the oldest first."""
        await self.follow()
        return sorted(self._keyring.keys.values(), key=lambda each: (each.created_at_s, each.id))

    async def follow(self) -> None:
        """Take up what was changed since; raises `KeysNotKept`."""
        async with self._following:
            latest, keys = await self._store.read(self._latest)
            for key in keys:
                known = self._keyring.keys.get(key.id)
                if known is None or known.revision != key.revision:
                    self._keyring.adopt(key)
            self._latest = latest

    async def run(self) -> None:
        """Follow until cancelled; what is known stays while the store does not answer."""
        failing = False
        while True:
            try:
                await self.follow()
                failing = False
            except KeysNotKept as error:
                if not failing:
                    logger.warning("keys cannot be followed", extra={"reason": str(error)})
                failing = True
            await asyncio.sleep(FOLLOW_S)

    async def _keep(self, key: Key) -> None:
        await self._store.write(key)
        self._keyring.adopt(key)

    def _proof(self, text: str) -> Proof:
        return Proof(secret.digest_of(text.encode(), self._pepper).hex())
