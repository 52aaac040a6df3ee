"""Leases of limits, shared by all replicas through one script call an exchange.

Nothing waits for it. Only limits of which something was used, or asked for, are spoken of; while
Redis does not answer, every replica keeps to its part of each limit (`policies.limits`).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import orjson
from redis.exceptions import NoScriptError, RedisError

from policies.limits import EXCHANGE_S, Granted, Meter, Places, Wanted
from router.access.gate import Gate
from router.access.redis_store import Client

logger = logging.getLogger("headway.access")
SCRIPT: Final = (Path(__file__).parent / "leases.lua").read_bytes()
DIGEST: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()
"""The name that Redis knows the script by."""
LIMIT_S: Final = 0.5
"""What one exchange may take."""
MOST_LIMITS: Final = 500
"""Spoken of in one call: the script holds Redis up for all others."""
MOST_DRIFT_S: Final = 0.05
"""By how much our time since 1970 may differ from Redis's before it is set right."""

Spoken = list[tuple[Meter, Wanted] | tuple[Places, tuple[int, int]]]


class Leases:
    """See the module. `count`: replicas there are, as far as is known."""

    def __init__(  # noqa: PLR0913, PLR0917 # it stands between Redis, the gate and the clock
        self,
        client: Client,
        prefix: str,
        replica: str,
        count: Callable[[], int],
        gate: Gate,
        clock: Callable[[], float],
        board_clock: Callable[[], float] | None = None,
    ) -> None:
        """`board_clock`: the time that all replicas go by; None: Redis's own."""
        self._board_clock = board_clock
        self._client = client
        self._prefix = f"{{{prefix}}}:limit:"
        self._replica = replica
        self._count = count
        self._gate = gate
        self._clock = clock
        self._failing = False
        self.exchanges = 0

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            await asyncio.sleep(EXCHANGE_S)
            try:
                await self.exchange()
            except Exception:  # whatever broke, the next exchange starts from what is
                logger.exception("leases: exchange broke")

    async def exchange(self) -> None:
        """Say what was used since, and take in what is leased from here on."""
        count = self._count()
        self._gate.keyring.share_among(count)
        spoken = self._say(self._now())
        for start in range(0, len(spoken), MOST_LIMITS):
            await self._exchange(spoken[start : start + MOST_LIMITS], count)

    def _now(self) -> float:
        return self._clock() + self._gate.since_1970_s

    def _say(self, now: float) -> Spoken:
        spoken: Spoken = []
        woken, self._gate.woken = self._gate.woken, []
        for quota in woken:
            before = len(spoken)
            for meter in quota.meters:
                wanted = meter.say(now)
                if wanted is not None:
                    spoken.append((meter, wanted))
            places = quota.places
            if places is not None and places.has_news:
                spoken.append((places, places.say(now)))
            if len(spoken) > before:
                self._gate.woken.append(quota)
            else:
                quota.is_busy = False
        return spoken

    async def _exchange(self, spoken: Spoken, count: int) -> None:
        keys = [f"{self._prefix}{each.name}" for each, _ in spoken]
        document = orjson.dumps([_said(each) for each in spoken], option=orjson.OPT_NON_STR_KEYS)
        began = self._clock()
        try:
            async with asyncio.timeout(LIMIT_S):
                answer = await self._run(keys, document, count)
            now_ms, answers = answer
            self._set_time(now_ms / 1000, began, self._clock())
            self._hear(spoken, answers)
        except (RedisError, OSError, TimeoutError, TypeError, ValueError) as error:
            self._missed(spoken, error)
            return
        self.exchanges += 1
        self._failing = False

    async def _run(self, keys: Sequence[str], document: bytes, count: int) -> Any:
        now_ms = "" if self._board_clock is None else str(int(1000 * self._board_clock()))
        words = (len(keys), *keys, self._replica, count, document, now_ms)
        try:
            return await self._client.execute_command("EVALSHA", DIGEST, *words)
        except NoScriptError:
            # A server that was restarted or flushed; EVAL teaches it.
            return await self._client.execute_command("EVAL", SCRIPT, *words)

    def _hear(self, spoken: Spoken, answers: Sequence[tuple[int, int, int]]) -> None:
        now = self._now()
        for (each, _), (amount, total, frees_in_ms) in zip(spoken, answers, strict=True):
            if isinstance(each, Meter):
                each.hear(Granted(amount, total, frees_in_ms / 1000), now)
            else:
                each.hear(amount, now)

    def _missed(self, spoken: Spoken, error: Exception) -> None:
        for each, said in spoken:
            if isinstance(each, Meter) and isinstance(said, Wanted):
                each.missed(said)
        if not self._failing:
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            logger.warning(
                "limits are not shared", extra={"reason": reason, "share": 1 / self._count()}
            )
        self._failing = True

    def _set_time(self, redis_s: float, began: float, ended: float) -> None:
        """Mean the same slots as all others, whatever this machine's clock says."""
        lacks_s = redis_s - 0.5 * (began + ended)
        if abs(lacks_s - self._gate.since_1970_s) > MOST_DRIFT_S + (ended - began):
            self._gate.since_1970_s = lacks_s


def _said(spoken: tuple[Meter, Wanted] | tuple[Places, tuple[int, int]]) -> dict[str, object]:
    each, said = spoken
    if isinstance(each, Meter) and isinstance(said, Wanted):
        return {
            "limit": each.limit,
            "slot_ms": int(each.span.slot_s * 1000),
            "slots": each.span.slots,
            "owed": said.owed,
            "backs": said.backs,
            "want": said.want,
            "least": said.least,
            "number": said.number,
            "heard": said.heard,
        }
    if isinstance(said, Wanted):
        raise TypeError("places are spoken of otherwise")
    in_use, want = said
    return {"limit": each.limit, "in_use": in_use, "want": want}
