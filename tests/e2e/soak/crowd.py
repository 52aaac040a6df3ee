"""Callers that do as callers do, and a judge of everything that they are answered."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import h11

from policies.facts import SlaClass
from tests.e2e.caller import Answer, Caller, caller, request
from tests.e2e.soak.engines import BREAKING, LARGE_BYTES, Ledger

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/messages")
STATUSES = frozenset({200, 400, 404, 429, 502, 503, 504})
"""Whatever else is answered, the router did wrong."""


class Wrong(Exception):
    """An answer that should never have been given."""


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    streams_complete: int = 0
    streams_broken: int = 0
    plain_broken: int = 0
    """Large plain answers that broke off, so that their connection was cut."""
    hung_up: int = 0
    behind_broken: int = 0
    """Requests sent ahead, behind an answer that broke and took the connection with it."""
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Wanted:
    """One request, and what its answer is held to."""

    id: str
    text: bytes
    is_stream: bool
    is_sound: bool


class Member:
    """One caller: asks one thing after another, on connections that it keeps while it can."""

    def __init__(self, port: int, rng: Random, ledger: Ledger, tally: Tally, name: str) -> None:
        self._port = port
        self._rng = rng
        self._ledger = ledger
        self._tally = tally
        self._name = name
        self._number = 0

    async def ask_until(self, most: int) -> None:
        """Ask until all members together have asked so often."""
        while self._tally.asked < most:
            window = self._rng.choice((None, None, None, 4096))
            async with caller(self._port, window_bytes=window) as one:
                await self._use(one, most)

    async def _use(self, one: Caller, most: int) -> None:
        """Ask on one connection until it ends."""
        goes_on = True
        while goes_on and self._tally.asked < most:
            if self._rng.random() < 0.22:
                await self._leave_early(one)
                return
            ahead = self._rng.choice((1, 1, 1, 1, 2, 4))
            wanted = [self._request() for _ in range(ahead)]
            await one.send(*[each.text for each in wanted])
            if self._rng.random() < 0.1:
                one.stop_reading()
                await asyncio.sleep(0.1)
                one.read_on()
            for place, each in enumerate(wanted):
                goes_on = await self._hear(one, each)
                if not goes_on:
                    self._tally.behind_broken += ahead - place - 1
                    break

    # asking

    def _request(self) -> Wanted:
        """Make up a request, mostly a sound one."""
        rng, tally = self._rng, self._tally
        self._number += 1
        tally.asked += 1
        id_ = f"{self._name}-{self._number}"
        is_stream, is_sound = rng.random() < 0.6, rng.random() < 0.96
        document: dict[str, object] = {"model": "m", "stream": is_stream, "max_tokens": 9}
        path = rng.choice(ROUTES)
        if path == "/v1/completions":
            document["prompt"] = "a" * rng.choice((5, 5, 5, 300_000))
        else:
            document["messages"] = [{"role": "user", "content": "hello"}]
        headers = {"x-request-id": id_}
        if rng.random() < 0.7:
            headers["x-sla-class"] = rng.choice(list(SlaClass))
        if rng.random() < 0.2:
            headers["x-sla-receipt"] = "1"
        if rng.random() < 0.1:
            headers["x-sla-queue"] = "never"
        if not is_sound:
            unsound = rng.choice(({"model": "nobody's"}, {"max_tokens": "many"}))
            document |= unsound
        return Wanted(id_, request(document, headers, path=path), is_stream, is_sound)

    async def _leave_early(self, one: Caller) -> None:
        """Send a request, whole or not, and hang up at some moment of its answer."""
        rng = self._rng
        wanted = self._request()
        self._tally.hung_up += 1
        if rng.random() < 0.1:
            await one.send(wanted.text[: rng.randrange(len(wanted.text))])
        else:
            await one.send(wanted.text)
            await self._read_a_little(one)
        self._ledger.left_at[wanted.id] = time.monotonic()
        one.hang_up(reset=rng.random() < 0.5)

    async def _read_a_little(self, one: Caller) -> None:
        rng = self._rng
        try:
            async with asyncio.timeout(rng.choice((0.0, 0.001, 0.01, 0.05, 0.2))):
                if rng.random() < 0.7:
                    await one.begin()
                    for _ in range(rng.randint(0, 3)):
                        await one.more()
                else:
                    await asyncio.sleep(1.0)
        except (TimeoutError, AssertionError, h11.RemoteProtocolError, ConnectionError):
            pass  # whatever it was, it is left alone

    # hearing

    async def _hear(self, one: Caller, wanted: Wanted) -> bool:
        """Read and judge one answer; tells whether the connection goes on."""
        seen = 0
        try:
            head = await one.begin()
            parts = []
            while part := await one.more():
                seen += len(part)
                parts.append(part)
                if self._rng.random() < 0.05:
                    await asyncio.sleep(0.01)
        except (h11.RemoteProtocolError, ConnectionError, AssertionError) as error:
            self._judge_broken(wanted, seen, error)
            return False
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        answer = Answer(head.status_code, headers, b"".join(parts))
        self._tally.statuses[answer.status] += 1
        try:
            return self._judge(wanted, answer)
        except (Wrong, AssertionError, ValueError, KeyError) as error:
            deeds = self._ledger.deeds.get(wanted.id)
            self._tally.wrong.append(f"{wanted.id} {deeds}: {error!r}; {answer!r:.1500}")
            return False

    def _judge_broken(self, wanted: Wanted, seen_bytes: int, error: Exception) -> None:
        """Hold a connection that was cut to what alone excuses it: a large plain answer broke."""
        deeds = self._ledger.deeds.get(wanted.id, [])
        excused = not wanted.is_stream and BREAKING.intersection(deeds)
        if excused and seen_bytes >= LARGE_BYTES // 2:
            self._tally.plain_broken += 1
        else:
            self._tally.wrong.append(
                f"{wanted.id} {deeds}: cut after {seen_bytes} bytes: {error!r}"
            )

    def _judge(self, wanted: Wanted, answer: Answer) -> bool:
        """Raise `Wrong` for an answer that should not be; tells whether the connection goes on."""
        if answer.header("x-request-id") not in {wanted.id, None}:
            raise Wrong("somebody else's answer")
        if answer.status not in STATUSES:
            raise Wrong(f"status {answer.status}")
        if answer.status != 200:
            require_error(answer.error)
            if answer.status == 429 and answer.header("retry-after") is None:
                raise Wrong("a 429 without Retry-After")
            return answer.header("connection") != "close"
        if not wanted.is_sound:
            raise Wrong("an unsound request was served")
        if wanted.is_stream:
            return self._judge_stream(wanted, answer)
        if answer.document["id"] != wanted.id:
            raise Wrong("somebody else's body")
        return True

    def _judge_stream(self, wanted: Wanted, answer: Answer) -> bool:
        """Hold a stream to its numbered events, and to one end."""
        *events, last = answer.events
        is_engines = last == b"[DONE]" and b'"error"' in events[-1]
        if is_engines:
            last = events.pop()
        for number, event in enumerate(events):
            document = json.loads(event)
            if document["id"] != wanted.id:
                raise Wrong("somebody else's event")
            if document["choices"][0]["delta"]["content"] != str(number):
                raise Wrong(f"event {number} is missing or came twice")
        if not events:
            raise Wrong("a stream of nothing")
        if last == b"[DONE]":
            self._tally.streams_complete += 1
            return True
        require_error(json.loads(last)["error"])
        self._tally.streams_broken += 1
        if not BREAKING.intersection(self._ledger.deeds[wanted.id]):
            raise Wrong("broken off without a reason")
        return is_engines


def require_error(error: object) -> None:
    """Raise `Wrong` for an error that has no words."""
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise Wrong(f"an error in no known shape: {error!r}")
