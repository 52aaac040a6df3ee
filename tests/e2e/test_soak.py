"""A short soak on each run; `make soak` runs a long one."""

import pytest

from tests.e2e.soak.__main__ import summary
from tests.e2e.soak.run import soak


@pytest.mark.timeout(90)
async def test_among_unreliable_engines_and_callers_nothing_leaks_and_nothing_is_answered_wrongly():
    outcome = await soak(1500, seed=7, callers=48, progress=lambda _: None)

    assert outcome.is_clean, summary(outcome, 1.0)
    assert outcome.tally.streams_complete > 100
    assert outcome.tally.streams_broken > 10
    assert outcome.tally.hung_up > 100
