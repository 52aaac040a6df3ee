from math import inf

import pytest

from policies.health import Cause, State
from policies.policy import HealthPolicy, Policy
from policies.watchdog import watch
from tests.policies.builders import WIDE, flight, state

POLICY = Policy(health=HealthPolicy(stall_s=1.0, slow_factor=3.0, slow_s=2.0, ramp_s=0.5))


def pool(count, **changes):
    made = [state(f"e{number}", WIDE, policy=POLICY, **changes) for number in range(count)]
    for each in made:
        each.health.by_canary = True
    return made


def streaming(endpoint, now=0.0):
    """Have one stream begin there."""
    taken = flight(endpoint, now=now)
    endpoint.began(taken, now)
    return taken


def speak(endpoint, tokens, took_s, now):
    endpoint.progress.tokens(tokens, took_s, now)


def test_an_endpoint_whose_streams_stand_still_is_down_until_they_move():
    one, other = pool(2)
    streaming(one)
    watch([one, other], 0.9)
    before = one.health.state
    watch([one, other], 1.1)
    still = one.health.state, one.health.cause
    speak(one, 1, 0.1, 3.0)
    watch([one, other], 3.1)

    assert before is State.UP
    assert still == (State.DOWN, Cause.STILL)
    assert one.health.state is State.UP
    assert one.slots == 1


def test_what_came_back_is_given_twice_as_much_each_time():
    one, other = pool(2, max_in_flight=8)
    streaming(one)
    watch([one, other], 1.1)
    speak(one, 1, 0.1, 2.0)
    watch([one, other], 2.0)
    slots = []
    for number in range(5):
        slots.append(one.slots)
        now = 2.5 + 0.5 * number
        speak(one, 1, 0.1, now)
        watch([one, other], now)

    assert slots == [1, 2, 4, 8, 8]


def test_the_last_endpoint_is_never_put_down():
    (one,) = pool(1)
    streaming(one)
    watch([one], 60.0)

    assert one.health.state is State.UP


@pytest.mark.parametrize(("count", "down"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_no_more_than_a_share_of_a_pool_is_put_down(count, down):
    endpoints = pool(count)
    for each in endpoints:
        streaming(each)
    watch(endpoints, 60.0)

    assert sum(each.health.state is State.DOWN for each in endpoints) == down


def test_an_endpoint_whose_tokens_come_far_slower_is_down_after_a_while():
    slow, one, other = endpoints = pool(3)
    seen = []
    for number in range(16):
        now = number * 0.25
        for each in (one, other):
            speak(each, 10, 0.2, now)
        speak(slow, 2, 0.25, now)
        watch(endpoints, now)
        seen.append(slow.health.state)

    assert seen[4] is State.UP
    assert slow.health.cause is Cause.SLOW
    assert (one.health.state, other.health.state) == (State.UP, State.UP)


def test_a_pool_that_is_slow_as_a_whole_is_not_judged():
    endpoints = pool(3)
    for number in range(40):
        for each in endpoints:
            speak(each, 1, 0.25, number * 0.25)
        watch(endpoints, number * 0.25)

    assert {each.health.state for each in endpoints} == {State.UP}


def test_one_with_far_more_to_do_is_not_held_to_those_who_idle():
    laden, idle = endpoints = pool(2, max_in_flight=16)
    for _ in range(9):
        streaming(laden)
    for number in range(40):
        speak(idle, 10, 0.1, number * 0.25)
        speak(laden, 1, 0.2, number * 0.25)
        watch(endpoints, number * 0.25)

    assert laden.health.state is State.UP


def test_slowness_that_passes_is_forgiven():
    slow, other = endpoints = pool(2)
    for number in range(30):
        now = number * 0.25
        speak(other, 10, 0.2, now)
        if number % 8 < 3:
            speak(slow, 2, 0.25, now)
        else:
            speak(slow, 20, 0.2, now)
        watch(endpoints, now)

    assert slow.health.state is State.UP
    assert slow.slow_since == inf or slow.slow_since > 6.0


def test_a_first_token_may_take_as_long_as_it_lately_took():
    one, other = pool(2)
    one.progress.reading.saw(100, 100, 2.0)
    flight(one, now=0.0)
    watch([one, other], 3.0)
    patient = one.health.state
    watch([one, other], 7.0)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_where_no_first_token_was_seen_it_may_take_longer():
    one, other = pool(2)
    flight(one, now=0.0)
    watch([one, other], 3.0)
    patient = one.health.state
    watch([one, other], 4.5)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_a_counter_that_is_read_seldom_is_given_time():
    one, other = pool(2)
    one.progress.counted(1.0, -2.0)
    one.progress.counted(1.0, 0.0)
    flight(one, now=0.0, streams=False)
    one.progress.counted(1.0, 2.0)
    watch([one, other], 3.9)
    patient = one.health.state
    one.progress.counted(1.0, 4.0)
    watch([one, other], 4.0)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_an_endpoint_on_trial_is_left_to_its_trial():
    one, other = pool(2)
    streaming(one)
    one.put_down(Cause.FAILED, 0.0)
    one.try_again()
    watch([one, other], 60.0)

    assert one.health.state is State.TRIAL


def long_prompt(endpoint, now, **changes):
    return flight(endpoint, now=now, prompt_bytes=16_000, **changes)


def test_streams_may_stand_still_for_as_long_as_a_prompt_beside_them_takes():
    one, other = pool(2)
    one.began(long_prompt(one, -20.0), -10.0)
    speak(one, 1, 0.1, 0.0)
    long_prompt(one, 0.0)
    watch([one, other], 12.0)
    patient = one.health.state
    watch([one, other], 31.0)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_a_prompt_longer_than_any_before_is_given_more_time_in_proportion():
    one, other = pool(2)
    one.began(flight(one, now=-1.0, prompt_bytes=400), -0.7)
    long_prompt(one, 0.0)
    watch([one, other], 9.0)
    patient = one.health.state
    watch([one, other], 60.0)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_a_long_prompt_takes_nothing_of_the_haste_about_short_ones():
    one, other = pool(2)
    long = long_prompt(one, -20.0)
    one.began(long, -10.0)
    one.give(long)
    short = flight(one, now=-5.0, prompt_bytes=40)
    one.began(short, -4.9)
    one.give(short)
    flight(one, now=0.0, prompt_bytes=40)
    watch([one, other], 1.1)

    assert one.health.state is State.DOWN


def test_streams_are_given_time_for_a_long_prompt_whose_answer_comes_as_a_whole():
    one, other = pool(2)
    long = long_prompt(one, -20.0)
    one.began(long, -10.0)
    one.give(long)
    streaming(one, now=0.0)
    long_prompt(one, 0.1, streams=False)
    watch([one, other], 12.0)
    patient = one.health.state
    watch([one, other], 32.0)

    assert (patient, one.health.state) == (State.UP, State.DOWN)


def test_an_engine_that_does_not_tell_its_counter_while_it_computes_is_left_to_its_probes():
    one, other = pool(2)
    one.progress.counted(1.0, -0.5)
    one.progress.counted(1.0, 0.0)
    flight(one, now=0.0, streams=False)
    watch([one, other], 30.0)

    assert one.health.state is State.UP


@pytest.mark.parametrize("streams", [True, False], ids=["a stream", "an answer as a whole"])
def test_one_that_reads_a_long_prompt_is_not_slow(streams):
    one, *others = endpoints = pool(3)
    for each in endpoints:
        long = long_prompt(each, -20.0)
        each.began(long, -10.0)
        each.give(long)
    for each in endpoints:
        streaming(each)
    long_prompt(one, 0.0, streams=streams)
    for number in range(40):
        now = number * 0.25
        for each in others:
            speak(each, 10, 0.2, now)
        speak(one, 1, 0.25, now)
        watch(endpoints, now)

    assert one.health.state is State.UP
