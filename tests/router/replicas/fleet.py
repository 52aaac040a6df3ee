"""Several replicas over one board, in virtual time, each with a dispatcher of its own."""

from collections.abc import Sequence
from random import Random

from policies.dispatcher import Dispatcher
from policies.facts import Ending, EndpointPlan, SlaClass
from policies.flight import Flight
from policies.policy import Policy
from router.replicas.board import BoardFailed, View, Word
from router.replicas.member import EXCHANGE_S, Member
from router.replicas.memory import MemoryBoard
from tests.policies.builders import facts, plan


class Link:
    """A replica's way to the board, which may be cut."""

    def __init__(self, board: MemoryBoard) -> None:
        self.board = board
        self.is_cut = False
        self.loses_answers = False

    async def exchange(self, word: Word) -> View:
        if self.is_cut:
            raise BoardFailed("cut off")
        view = await self.board.exchange(word)
        if self.loses_answers:
            raise BoardFailed("the answer was lost")
        return view

    async def look(self) -> View:
        return await self.board.look()

    async def leave(self, replica: str) -> None:
        if self.is_cut:
            raise BoardFailed("cut off")
        await self.board.leave(replica)

    async def close(self) -> None:
        pass


class Replica:
    def __init__(self, world: "World", name: str, plans: Sequence[EndpointPlan]) -> None:
        self.world = world
        self.link = Link(world.board)
        self.dispatcher = Dispatcher(plans, world.policy, Random(name))
        self.flights: list[Flight] = []
        self.sent_orders: list[float] = []
        self.member = Member(
            self.link,
            self.dispatcher,
            replica=name,
            host="here",
            clock=lambda: world.now,
            pump=self.pump,
            expected=world.expected,
        )

    def arrive(self, sla_class: SlaClass, tenant: str = "t") -> None:
        asked = facts(sla_class, patience_s=1e6, tenant=tenant)
        answer = self.dispatcher.arrive(asked, self.world.now)
        flight = getattr(answer, "flight", None)
        if flight is not None:
            self.took(flight)

    def pump(self, now: float) -> None:
        for answer in self.dispatcher.due(now):
            flight = getattr(answer, "flight", None)
            if flight is not None:
                self.took(flight)

    def took(self, flight: Flight) -> None:
        self.flights.append(flight)
        self.dispatcher.first_token(flight, self.world.now)
        if flight.ask.rank == 2:
            self.world.bulk_sent.append((self.world.now, flight.ask.arrived_at))

    def end_one(self) -> None:
        if self.flights:
            self.dispatcher.ended(self.flights.pop(0), Ending.COMPLETED, self.world.now)
            self.pump(self.world.now)

    def own(self, endpoint_id: str = "e") -> tuple[int, int, int]:
        return self.dispatcher.endpoints[endpoint_id].own_held

    async def step(self) -> None:
        await self.member._exchange(self.world.now)


class World:
    """Replicas that all exchange one after the other, every `EXCHANGE_S`."""

    def __init__(
        self,
        names: str = "abc",
        plans: Sequence[EndpointPlan] = (),
        policy: Policy | None = None,
        expected: int = 1,
    ) -> None:
        self.now = 100.0
        self.board_ahead_s = 5000.0
        self.policy = policy or Policy()
        self.expected = expected
        self.plans = plans or (plan("e", max_in_flight=30),)
        self.board = MemoryBoard(lambda: self.now + self.board_ahead_s)
        self.bulk_sent: list[tuple[float, float]] = []
        """When bulk was sent, and when it had come."""
        self.replicas: dict[str, Replica] = {}
        for name in names:
            self.join(name)

    def join(self, name: str) -> Replica:
        self.replicas[name] = Replica(self, name, self.plans)
        return self.replicas[name]

    def kill(self, name: str) -> None:
        """Its requests end with it."""
        del self.replicas[name]

    async def round(self) -> None:
        for replica in list(self.replicas.values()):
            await replica.step()
        self.now += EXCHANGE_S

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds / EXCHANGE_S)):
            await self.round()

    def total(self, rank: int, endpoint_id: str = "e") -> int:
        return sum(each.own(endpoint_id)[rank] for each in self.replicas.values())
