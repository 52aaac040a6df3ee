from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.health import Cause, Health, State
from policies.policy import HealthPolicy


def health(**changes):
    return Health(HealthPolicy(**changes))


def fail(judged, times=1, now=0.0, *, trial=False, alone=False):
    for _ in range(times):
        judged.failed(now, trial=trial, alone=alone)


def is_in(judged, state):
    return judged.state is state


def down(now=0.0):
    judged = health()
    fail(judged, 3, now)
    return judged


def on_trial():
    judged = down()
    judged.try_again()
    judged.trying = True
    return judged


def test_an_endpoint_starts_up():
    assert health().state is State.UP


def test_a_few_failures_make_it_suspect_and_a_success_clears_it():
    judged = health()

    fail(judged, 2)
    assert is_in(judged, State.SUSPECT)
    assert judged.takes_requests

    judged.succeeded()
    assert is_in(judged, State.UP)
    assert judged.spotless


def test_failures_in_a_row_take_it_down_until_its_time_is_over():
    judged = down(now=10.0)

    assert is_in(judged, State.DOWN)
    assert not judged.takes_requests
    assert judged.retry_at == 11.0


def test_failures_with_successes_between_do_not_take_it_down():
    judged = health()

    for _ in range(5):
        fail(judged, 2)
        judged.succeeded()

    assert is_in(judged, State.UP)


def test_a_late_success_does_not_end_a_time_of_being_down():
    judged = down()

    judged.succeeded()

    assert is_in(judged, State.DOWN)


def test_a_trial_takes_one_request_at_a_time():
    judged = down()

    judged.try_again()
    assert is_in(judged, State.TRIAL)
    assert judged.takes_requests

    judged.trying = True
    assert not judged.takes_requests
    assert judged.hopeful


def test_a_trial_that_passes_brings_it_back():
    judged = on_trial()

    judged.trial_passed()

    assert is_in(judged, State.UP)


def test_a_trial_that_fails_doubles_the_time_up_to_the_longest():
    judged = down()

    waits = []
    for _ in range(7):
        judged.try_again()
        fail(judged, trial=True)
        waits.append(judged.retry_at)

    assert waits == [2, 4, 8, 16, 30, 30, 30]


def test_the_time_starts_over_only_after_an_answer_was_completed():
    judged = on_trial()
    fail(judged, trial=True)
    judged.try_again()
    judged.trial_passed()
    fail(judged, 3)
    assert judged.retry_at == 2.0

    judged.try_again()
    judged.trial_passed()
    judged.succeeded()
    fail(judged, 3)
    assert judged.retry_at == 1.0


def test_a_trial_that_tells_nothing_is_followed_by_another():
    judged = on_trial()

    judged.trial_given_up()

    assert is_in(judged, State.TRIAL)
    assert judged.takes_requests


def test_a_failure_of_a_request_sent_before_does_not_decide_the_trial():
    judged = on_trial()

    fail(judged)

    assert is_in(judged, State.TRIAL)
    assert judged.trying


def test_further_failures_do_not_lengthen_the_time():
    judged = down(now=0.0)

    fail(judged, 5, now=0.9)

    assert judged.retry_at == 1.0


def test_the_last_endpoint_of_a_model_stays_in_use_whatever_fails():
    judged = health()

    fail(judged, 50, alone=True)

    assert is_in(judged, State.SUSPECT)


def test_the_last_endpoint_goes_down_by_probes():
    judged = health()
    fail(judged, 50, alone=True)

    judged.probed(ok=False)
    assert is_in(judged, State.SUSPECT)

    judged.probed(ok=False)
    assert is_in(judged, State.DOWN)
    assert judged.retry_at == inf


def test_failed_probes_with_a_good_one_between_do_not_count():
    judged = health()

    for ok in (False, True, False, True, False):
        judged.probed(ok=ok)

    assert is_in(judged, State.UP)


@pytest.mark.parametrize("by_probes", [True, False])
def test_a_good_probe_ends_a_time_of_being_down_with_a_trial(by_probes):
    judged = health()
    if by_probes:
        judged.probed(ok=False)
        judged.probed(ok=False)
    else:
        fail(judged, 3)

    judged.probed(ok=True)

    assert is_in(judged, State.TRIAL)


def test_a_good_probe_changes_nothing_of_what_requests_showed():
    judged = health()
    fail(judged, 2)

    judged.probed(ok=True)

    assert is_in(judged, State.SUSPECT)


def test_a_passing_trial_does_not_overrule_probes():
    judged = on_trial()
    judged.probed(ok=False)
    judged.probed(ok=False)

    judged.trial_passed()

    assert is_in(judged, State.DOWN)


def test_draining_hides_the_condition_and_keeps_it():
    judged = health()
    fail(judged, 2)

    judged.draining = True
    assert is_in(judged, State.DRAINING)
    assert not judged.takes_requests
    assert not judged.hopeful

    judged.draining = False
    assert is_in(judged, State.SUSPECT)


def test_a_busy_engine_is_left_alone_for_as_long_as_it_asks():
    judged = health()

    judged.was_busy(10.0, None)
    assert judged.busy_until == 11.0

    judged.was_busy(10.0, 7.5)
    assert judged.busy_until == 17.5

    judged.was_busy(10.0, 1.0)
    assert judged.busy_until == 17.5

    judged.was_busy(10.0, 9999.0)
    assert judged.busy_until == 40.0
    assert is_in(judged, State.UP)


HAPPENINGS = {
    "failed": fail,
    "failed, alone": lambda judged: fail(judged, alone=True),
    "trial failed": lambda judged: fail(judged, trial=True),
    "trial passed": Health.trial_passed,
    "succeeded": Health.succeeded,
    "good probe": lambda judged: judged.probed(ok=True),
    "bad probe": lambda judged: judged.probed(ok=False),
    "time over": Health.try_again,
    "drained": lambda judged: setattr(judged, "draining", True),
    "undrained": lambda judged: setattr(judged, "draining", False),
}


@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=40))
def test_whatever_happens_it_takes_requests_only_if_it_is_worth_waiting_for(happenings):
    judged = health()

    for happening in happenings:
        HAPPENINGS[happening](judged)

        assert judged.hopeful or not judged.takes_requests
        # A time of being down ends by itself only where failed requests were the cause.
        assert judged.retry_at == inf or not judged.probed_down


def test_one_that_is_slow_again_soon_is_left_alone_for_longer_but_never_for_long():
    judged = health(back_off_s=1.0)
    rests, now = [], 0.0
    for _ in range(4):
        judged.put_down(Cause.SLOW, now)
        rests.append(judged.retry_at - now)
        now = judged.retry_at
        judged.try_again()
        judged.trial_passed()
        judged.succeeded()
        now += 2.5

    assert rests == [1.0, 2.0, 4.0, 4.0]


def test_slowness_of_long_ago_is_forgotten():
    judged = health(back_off_s=1.0)
    judged.put_down(Cause.SLOW, 0.0)
    judged.put_down(Cause.SLOW, 5.0)
    judged.put_down(Cause.SLOW, 60.0)

    assert judged.retry_at == 61.0
