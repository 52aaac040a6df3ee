"""Keys by way of several routers, and where they are kept for a while does not answer."""

import asyncio
import logging
from dataclasses import replace

import pytest

from policies.keys import Key
from router.access import office as office_module
from router.access.keyring import Failure, Keyring, Pass
from router.access.office import NoSuchKey, Office
from router.access.store import Journal, KeysNotKept, Overtaken

FRESH = Key("", "acme")


class Shaky(Journal):
    """A store that does not answer while it is told not to."""

    def __init__(self):
        super().__init__(None)
        self.is_away = False
        self.reads = 0

    async def read(self, after):
        self.reads += 1
        if self.is_away:
            raise KeysNotKept("redis failed: it is away; see to [redis]")
        return await super().read(after)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store():
    return Shaky()


@pytest.fixture
def opened(store, clock):
    def opened():
        return Office(store, Keyring(b"pepper", {}), b"pepper", clock)

    return opened


def opens(office, text, now=1000.0):
    return office._keyring.find(text.encode(), now)


async def test_a_key_made_by_one_router_opens_another(opened):
    first, second = opened(), opened()
    _, text = await first.issue(FRESH)
    assert opens(second, text) is Failure.WRONG
    await second.follow()

    assert isinstance(opens(second, text), Pass)


async def test_a_key_revoked_by_one_router_opens_no_other(opened):
    first, second = opened(), opened()
    key, text = await first.issue(FRESH)
    await second.follow()
    await first.revoke(key.id)
    await second.follow()

    assert opens(second, text, 1000.5) is Failure.REVOKED


async def test_a_change_that_crosses_a_revocation_does_not_undo_it(opened):
    first, second = opened(), opened()
    key, _ = await first.issue(FRESH)
    await first.revoke(key.id)

    with pytest.raises(Overtaken):
        await second.change(replace(key, weight=2.0))
    assert (await second.find(key.id)).revoked_at_s == 1000.0


async def test_a_revocation_that_crosses_a_change_is_made_all_the_same(opened, store):
    first, second = opened(), opened()
    key, _ = await first.issue(FRESH)
    found = second.find

    async def finds_before_the_change(id_):
        seen = await found(id_)
        if store.reads < 10:
            store.reads = 10
            await first.change(replace(key, weight=2.0))
        return seen

    second.find = finds_before_the_change
    revoked = await second.revoke(key.id)

    assert (revoked.weight, revoked.revoked_at_s) == (2.0, 1000.0)


async def test_the_secret_before_the_last_but_one_opens_nothing(opened):
    office = opened()
    key, first = await office.issue(FRESH)
    _, second = await office.rotate(key.id, 60.0)
    _, third = await office.rotate(key.id, 60.0)

    assert opens(office, first) is Failure.WRONG
    assert isinstance(opens(office, second, 1059.0), Pass)
    assert opens(office, second, 1060.0) is Failure.EXPIRED
    assert isinstance(opens(office, third, 1e9), Pass)


async def test_a_key_that_is_not_there_is_named(opened):
    with pytest.raises(NoSuchKey, match="no key 'nobody'"):
        await opened().find("nobody")


async def test_keys_stay_known_while_their_store_is_away(opened, store, caplog, monkeypatch):
    monkeypatch.setattr(office_module, "FOLLOW_S", 0.0)
    caplog.set_level(logging.WARNING)
    first, second = opened(), opened()
    key, text = await first.issue(FRESH)
    await second.follow()
    store.is_away = True
    async with asyncio.TaskGroup() as group, asyncio.timeout(10.0):
        task = group.create_task(second.run())
        while store.reads < 10:
            await asyncio.sleep(0)
        assert isinstance(opens(second, text), Pass)
        store.is_away = False
        await first.revoke(key.id)
        while opens(second, text, 2000.0) is not Failure.REVOKED:
            await asyncio.sleep(0)
        task.cancel()

    assert [each.message for each in caplog.records] == ["keys cannot be followed"]
