"""Three gates share limits through a real Redis, and keep to their parts without it."""

import pytest
from redis.asyncio import Redis

from policies.facts import RequestFacts, SlaClass
from policies.keys import Allowance, Key, Proof
from router.access.gate import Gate, Stay
from router.access.keyring import Keyring
from router.access.leases import Leases
from router.settings import Access
from tests.fakes.redis_server import RedisServer

COUNT = 3


class Time:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now_s = 1_800_000_000.0

    def __call__(self):
        return self.now_s


class Replica:
    """One router's gate and its leases."""

    def __init__(self, name, url, clock, allowance):
        self.client = Redis.from_url(url, protocol=2, socket_timeout=1.0)
        self.keyring = Keyring(b"pepper", {}, COUNT)
        key = Key("k", "acme", (Proof("00" * 32),), allowance=allowance)
        self.keyring.adopt(key)
        self.holder = self.keyring.holder_of(key)
        self.gate = Gate(
            Access(), self.keyring, since_1970_s=0.0, class_of=lambda _: SlaClass.STANDARD
        )
        self.leases = Leases(self.client, "headway", name, lambda: COUNT, self.gate, clock, clock)
        self.clock = clock

    def change(self, **limits):
        """Give the key other limits."""
        key = Key("k", "acme", (Proof("00" * 32),), allowance=Allowance(**limits))
        self.keyring.adopt(key)
        self.holder = self.keyring.holder_of(key)

    def ask(self):
        """Return a stay, or None where the limit is reached."""
        facts = RequestFacts("r", "m", frozenset(), 100)
        admitted = self.gate.admit(self.holder, facts, self.clock())
        return admitted if isinstance(admitted, Stay) else None

    def end(self, stay):
        self.gate.settle(stay, None, None, None, self.clock())


class Fleet:
    def __init__(self, server, replicas, clock):
        self.server = server
        self.replicas = replicas
        self.clock = clock

    async def exchange(self):
        for each in self.replicas:
            await each.leases.exchange()


@pytest.fixture
async def fleet(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    made = []

    def fleet(**limits):
        clock = Time()
        replicas = [
            Replica(f"r{number}", server.url, clock, Allowance(**limits)) for number in range(COUNT)
        ]
        made.extend(replicas)
        return Fleet(server, replicas, clock)

    yield fleet
    for each in made:
        await each.client.aclose()
    server.kill()


async def flood(fleet, rounds, each=20):
    """Ask far too much of all; return how many were let in."""
    let_in = 0
    for _ in range(rounds):
        for replica in fleet.replicas:
            let_in += sum(replica.ask() is not None for _ in range(each))
        fleet.clock.now_s += 0.1
        await fleet.exchange()
    return let_in


async def test_three_replicas_let_through_one_limit(fleet):
    three = fleet(requests_per_minute=100)

    assert await flood(three, 12) == 100


async def test_one_replica_that_is_asked_alone_has_the_whole_limit(fleet):
    three = fleet(requests_per_minute=90)
    (first, *_) = three.replicas
    let_in = 0
    for _ in range(15):
        let_in += sum(first.ask() is not None for _ in range(30))
        await three.exchange()

    assert let_in == 90


async def test_tokens_given_back_on_one_replica_are_free_on_another(fleet):
    three = fleet(tokens_per_minute=3000)
    first, second, _ = three.replicas
    stays = []
    assert second.ask() is not None
    for _ in range(15):
        while (stay := first.ask()) is not None:
            stays.append(stay)
        second.ask()
        await three.exchange()
    assert second.ask() is None
    for stay in stays:
        first.end(stay)
    for _ in range(3):
        await three.exchange()

    assert second.ask() is not None


async def test_places_are_shared(fleet):
    three = fleet(concurrent=9)
    stays = []
    for _ in range(5):
        for replica in three.replicas:
            stays += [(replica, stay) for _ in range(4) if (stay := replica.ask()) is not None]
        await three.exchange()
    for replica, stay in stays:
        replica.end(stay)
    await three.exchange()
    (first, *_) = three.replicas
    again = 0
    for _ in range(3):
        again += sum(first.ask() is not None for _ in range(9))
        await three.exchange()

    assert len(stays) == 9
    assert again == 9


async def test_without_redis_every_replica_keeps_to_its_part(fleet, caplog):
    three = fleet(requests_per_minute=100)
    three.server.kill()

    # Ninety-nine fit into three equal parts; a part is rounded up.
    assert await flood(three, 3, each=60) == 102
    assert [each.message for each in caplog.records].count("limits are not shared") == COUNT


async def test_a_redis_that_goes_in_the_middle_opens_no_second_helping(fleet):
    three = fleet(requests_per_minute=100)
    before = await flood(three, 12)
    three.server.kill()
    three.clock.now_s += 2.0

    assert before + await flood(three, 3, each=60) == 100


async def test_a_redis_that_comes_back_is_used_again(fleet):
    three = fleet(requests_per_minute=90)
    three.server.kill()
    await flood(three, 1, each=1)
    three.server.start()
    let_in = await flood(three, 12)

    assert 3 + let_in == 90


async def test_what_an_unheard_answer_leased_is_leased_to_nobody(fleet, monkeypatch):
    three = fleet(requests_per_minute=90)
    (first, *_) = three.replicas
    execute, calls = first.client.execute_command, []

    async def loses_answers(*words):
        answer = await execute(*words)
        calls.append(words)
        if len(calls) % 3 == 2:
            raise TimeoutError
        return answer

    monkeypatch.setattr(first.client, "execute_command", loses_answers)

    assert await flood(three, 20) == 90


async def test_what_runs_while_its_limit_is_changed_is_settled_on_the_board(fleet):
    three = fleet(tokens_per_day=90_000)
    (first, *_) = three.replicas
    before = [stay for _ in range(5) if (stay := first.ask()) is not None]
    await three.exchange()
    first.change(tokens_per_day=80_000)
    after = first.ask()
    await three.exchange()
    for stay in before:
        first.end(stay)
    for _ in range(40):
        three.clock.now_s += 0.1
        await three.exchange()

    assert len(before) == 5
    assert int(await told(first, "total")) == after.tokens


async def test_what_is_kept_of_replicas_that_are_gone_goes_with_the_day(fleet):
    three = fleet(tokens_per_day=90_000)
    for replica in three.replicas[:2]:
        assert replica.ask() is not None
    await three.exchange()
    three.clock.now_s += 86_400.0
    last = three.replicas[2]
    assert last.ask() is not None
    await last.leases.exchange()

    assert await told(last, "last:r2") is not None
    assert await told(last, "last:r0") is None
    assert await told(last, "last:r1") is None


async def told(replica, field):
    """Return what the board keeps in a field of the one window that there is."""
    (key,) = await replica.client.keys("{headway}:limit:*")
    return await replica.client.hget(key, field)


async def test_limits_that_nobody_uses_are_not_spoken_of(fleet):
    three = fleet(tokens_per_minute=3000, concurrent=5)
    (first, *_) = three.replicas
    stay = first.ask()
    for _ in range(50):
        three.clock.now_s += 0.1
        await three.exchange()
    assert [len(each.gate.woken) for each in three.replicas] == [1, 0, 0]
    first.end(stay)
    assert len(first.gate.woken) == 1
    for _ in range(50):
        three.clock.now_s += 0.1
        await three.exchange()

    assert first.gate.woken == []
    assert first.ask() is not None
    assert len(first.gate.woken) == 1


async def test_a_clock_that_is_wrong_is_set_by_redis(fleet):
    three = fleet(requests_per_minute=10)
    (first, *_) = three.replicas
    first.gate.since_1970_s = 5000.0
    first.ask()
    await three.exchange()

    assert abs(first.gate.since_1970_s) < 0.1
