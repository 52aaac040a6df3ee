"""Hostile answers: whatever an engine says, each caller hears one answer to each of its requests.

Straight from the router, and through a real nginx and a real HAProxy before it.
"""

import asyncio
from contextlib import ExitStack

import pytest
import uvloop

from router.settings import Limits, Timeouts
from tests.e2e.running import pool, serving
from tests.fakes.scripted import scripted_engine
from tests.hostile.calling import NEVER_ENDED, answers, call
from tests.hostile.case import evil, own, post
from tests.hostile.engine_answers import SAID
from tests.hostile.proxies import Sockets, installed, running
from tests.hostile.record import MARK, STEP, WAIT_S, echo

WAYS = ("direct", "nginx", "haproxy")
pytestmark = pytest.mark.timeout(60)


async def say(asked):
    """Say what the mark in the request stands for."""
    mark = MARK.search(asked.body)
    assert mark
    number = int(mark[1])
    said = SAID[number % STEP]
    await asked.say(said.numbered(number))
    if said.closes:
        asked.close()


def asking(number):
    """Return a request for what an engine says to it, and a harmless one behind."""
    hostile = post(body=b'{"model":"a%d","prompt":"%b"}' % (number, own(number)))
    harmless = post(b"connection: close", body=b'{"model":"m","prompt":"%b"}' % own(number))
    return hostile, harmless


async def collect(folder):
    """Return what was heard, by way and number of the case."""
    heard = {}
    with ExitStack() as stack:
        async with (
            scripted_engine(say) as hostile,
            scripted_engine(echo) as harmless,
            serving(
                pool("m", harmless, slots=1000),
                # Each a pool of its own: whoever answers so is not asked again soon.
                *(
                    pool(f"{way}-{number}", hostile, models=(f"a{at * STEP + number}",))
                    for at, way in enumerate(WAYS)
                    for number in range(len(SAID))
                ),
                within_s=None,
                timeouts=Timeouts(connect_s=20.0),  # hundreds of engines are probed at once
                limits=Limits(keep_alive_s=WAIT_S, max_loop_lag_s=None),
            ) as router,
        ):
            ports = {"direct": router.port}
            for name in installed():
                sockets = Sockets()
                stack.callback(sockets.close)
                (folder / name).mkdir()
                stack.enter_context(
                    running(name, sockets, folder / name, router=router.port,
                            engine=harmless.port, wait_s=2 * WAIT_S)
                )  # fmt: skip
                ports[name] = sockets.ports[0]

            room = asyncio.Semaphore(50)  # the engine's backlog is a hundred

            async def ask(way, number):
                mark = WAYS.index(way) * STEP + number
                async with room:
                    heard[way, number] = await call(b"".join(asking(mark)), ports[way])

            async with asyncio.TaskGroup() as group:
                for way in ports:
                    for number in range(len(SAID)):
                        group.create_task(ask(way, number))
            stack.close()
    return heard


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return uvloop.run(collect(tmp_path_factory.mktemp("proxies")))


def test_every_answer_is_passed_on_or_called_broken_and_the_next_is_untouched(heard):
    wrong = []
    for number, said in enumerate(SAID):
        whole = heard["direct", number]
        statuses = [each.status for each in answers(whole)]
        if statuses != [said.status, 200] or not answers(whole)[1].body.count(own(number)):
            wrong.append((said.name, said.status, statuses, whole[:400]))

    assert wrong == []


@pytest.mark.parametrize("way", WAYS)
def test_what_an_engine_hides_in_its_answer_is_never_heard(heard, way):
    if (way, 0) not in heard:
        pytest.skip(f"{way} is not installed")
    wrong = []
    for number, said in enumerate(SAID):
        mark = WAYS.index(way) * STEP + number
        whole = heard[way, number]
        others = {int(each) for each in MARK.findall(whole)} - {mark}
        is_whole = not whole.endswith(NEVER_ENDED) and own(mark) in answers(whole)[-1].body
        if not is_whole or others or evil(mark) in whole or len(answers(whole)) > 2:
            wrong.append((said.name, whole[:400]))

    assert wrong == []
