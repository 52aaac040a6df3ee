"""The load generator, the router and two emulated engines: what it asks for reaches the decision."""

import time

import pytest

from engines.emulator.profiles import STEADY
from engines.emulator.server import Served, serve
from engines.emulator.spec import EngineSpec, Vllm
from engines.engine import Kind
from policies.facts import Profile, Reason, SlaClass
from router.bench.drive import Drive, drive
from router.bench.prompts import Prompts
from router.bench.question import Target, Writer
from router.measure.outcome import Fate, Outcome
from tests.e2e.running import pool, serving
from tests.router.bench.emulated import PACE
from tests.router.simulation.worlds import LOOSE, offer

MODEL = "emulated"


@pytest.mark.anyio
async def test_classes_get_to_their_homes_and_the_answers_say_so():
    offers = [
        offer(number, 0.005 * number, sla_class=list(SlaClass)[number % 3], targets=LOOSE)
        for number in range(30)
    ]
    seen: list[Outcome] = []
    served = [Served(name, EngineSpec(STEADY, Vllm()), model=MODEL) for name in ("quick", "wide")]
    async with serve(served, pace=PACE) as (quick, wide):
        fast = pool(
            "quick",
            quick.url,
            kind=Kind.VLLM,
            profile=Profile.PREDICTABLE,
            models=(MODEL,),
            slots=64,
        )
        large = pool("wide", wide.url, kind=Kind.VLLM, models=(MODEL,), slots=256)
        async with serving(fast, large) as router:
            target = Target("router", router.url, MODEL)
            writer = Writer(target, Prompts("1"), exact=True)
            plan = Drive(target, writer, 10.0, exact=True, clock=time.monotonic, seen=seen.append)
            await drive(plan, offers)

    assert {each.fate for each in seen} == {Fate.SERVED}
    assert {(each.offer.sla_class, each.endpoint, each.reason) for each in seen} == {
        (SlaClass.INTERACTIVE, "quick-0", Reason.HOME),
        (SlaClass.STANDARD, "wide-0", Reason.HOME),
        (SlaClass.BULK, "wide-0", Reason.HOME),
    }
    assert {line["class"] for line in router.log} == set(SlaClass)
