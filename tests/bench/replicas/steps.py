"""Replicas that are killed, join, are cut off and lose their board, on a real Redis and a real clock.

After so many steps all is left in peace; then every replica's counts must be the truth.
"""

import asyncio
import tempfile
from pathlib import Path
from random import Random

import uvloop

from policies.dispatcher import Dispatcher
from policies.facts import Ending, SlaClass
from policies.flight import Flight
from policies.policy import Policy
from router.replicas.board import BoardFailed, View, Word
from router.replicas.member import LIMIT_S, Member
from router.replicas.redis import RedisBoard, connect
from tests.bench.replicas.finding import Finding
from tests.fakes.redis_server import RedisServer, redis_server
from tests.policies.builders import facts, plan

STEPS = 200
QUIET_S = 3.0
SLOTS = {"e": 40, "f": 9}
CLASSES = tuple(SlaClass)


class Way:
    """A replica's way to the board, which may be cut."""

    def __init__(self, board: RedisBoard) -> None:
        self.board = board
        self.is_cut = False

    async def exchange(self, word: Word) -> View:
        """See `Board`."""
        if self.is_cut:
            raise BoardFailed("cut off")
        return await self.board.exchange(word)

    async def look(self) -> View:
        """See `Board`."""
        return await self.board.look()

    async def leave(self, replica: str) -> None:
        """See `Board`."""
        await self.board.leave(replica)

    async def close(self) -> None:
        """See `Board`."""
        await self.board.close()


class Replica:
    """A member that lives, and the requests that it has."""

    def __init__(self, name: str, url: str, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        plans = [plan(name, max_in_flight=slots) for name, slots in SLOTS.items()]
        self.way = Way(RedisBoard(connect(url, None, limit_s=LIMIT_S), "steps"))
        self.flights: list[Flight] = []
        self.dispatcher = Dispatcher(plans, Policy(), Random(name))
        member = Member(
            self.way,
            self.dispatcher,
            replica=name,
            host="here",
            clock=loop.time,
            pump=self._pump,
        )
        self.member = member
        self.task = group.create_task(member.run())

    def arrive(self, sla_class: SlaClass, now: float) -> None:
        """Offer one request."""
        answer = self.dispatcher.arrive(facts(sla_class, patience_s=1e6), now)
        self._took(getattr(answer, "flight", None), now)
        self._pump(now)

    def end_one(self, now: float) -> None:
        """Let the oldest request end."""
        if self.flights:
            self.dispatcher.ended(self.flights.pop(0), Ending.COMPLETED, now)
            self._pump(now)

    def own(self, endpoint_id: str) -> tuple[int, int, int]:
        """Return what it has there, by rank."""
        return self.dispatcher.endpoints[endpoint_id].own_held

    def _pump(self, now: float) -> None:
        for answer in self.dispatcher.due(now):
            self._took(getattr(answer, "flight", None), now)

    def _took(self, flight: Flight | None, now: float) -> None:
        if flight is not None:
            self.flights.append(flight)
            self.dispatcher.first_token(flight, now)


class Scene:
    """All replicas that live, and what happens to them."""

    def __init__(self, seed: int, server: RedisServer, group: asyncio.TaskGroup) -> None:
        self.rng = Random(seed)
        self.server = server
        self.group = group
        self.alive: dict[str, Replica] = {}
        for name in "abc":
            self.join(name)

    def join(self, name: str) -> None:
        """Let one more in."""
        self.alive[name] = Replica(name, self.server.url, self.group)

    def kill(self, name: str) -> None:
        """End one without a word; its requests end with it."""
        self.alive.pop(name).task.cancel()

    def trouble(self, number: int) -> None:
        """Kill one, let one join, cut one off or back on, lose the board, or nothing."""
        match self.rng.randrange(6):
            case 0 | 1 if len(self.alive) > 1:
                self.kill(self.rng.choice(sorted(self.alive)))
            case 2 | 3 if len(self.alive) < 6:
                self.join(f"joined-{number}")
            case 4:
                way = self.alive[self.rng.choice(sorted(self.alive))].way
                way.is_cut = not way.is_cut
            case 5 if self.rng.random() < 0.3:
                self.server.ask("FLUSHALL")

    async def run(self) -> None:
        """Take all steps."""
        clock = asyncio.get_running_loop().time
        for number in range(STEPS):
            self.trouble(number)
            for replica in self.alive.values():
                replica.arrive(self.rng.choice(CLASSES), clock())
                if self.rng.random() < 0.5:
                    replica.end_one(clock())
            await asyncio.sleep(self.rng.choice((0.02, 0.05, 0.2)))
        for replica in self.alive.values():
            replica.way.is_cut = False

    @property
    def wrong(self) -> int:
        """Counts that are not the truth, over all replicas, endpoints and classes."""
        wrong = 0
        for name in SLOTS:
            truth = [sum(each.own(name)[rank] for each in self.alive.values()) for rank in range(3)]
            for replica in self.alive.values():
                held = replica.dispatcher.endpoints[name].held
                wrong += sum(mine != true for mine, true in zip(held, truth, strict=True))
        return wrong


def findings(seed: int) -> list[Finding]:
    """Play all steps, wait, and count what is not the truth."""
    return uvloop.run(_played(seed))


async def _played(seed: int) -> list[Finding]:
    with (
        tempfile.TemporaryDirectory(prefix="headway-") as folder,
        redis_server(Path(folder)) as redis,
    ):
        async with asyncio.TaskGroup() as group:
            scene = Scene(seed, redis, group)
            await scene.run()
            clock = asyncio.get_running_loop().time
            began, settled_s = clock(), 0.0
            while clock() - began < QUIET_S:
                await asyncio.sleep(0.05)
                if scene.wrong:
                    settled_s = clock() - began
            wrong, left = scene.wrong, len(scene.alive)
            in_flight = sum(len(each.flights) for each in scene.alive.values())
            for name in sorted(scene.alive):
                scene.kill(name)
    return [
        Finding(f"counts that are not the truth after {QUIET_S:g} s of quiet", wrong, 0),
        Finding("s of quiet until the last was", settled_s, QUIET_S),
        Finding("replicas at the end", left, least=2),
        Finding("requests in flight at the end", in_flight, least=1),
    ]
