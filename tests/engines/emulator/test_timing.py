"""When steps are done: launches, hiccups, the API server in front."""

from dataclasses import replace
from random import Random
from statistics import mean, median

import pytest

from engines.emulator.front import ApiServer, Deliveries
from engines.emulator.jobs import Job
from engines.emulator.profiles import H100_8B, PROFILES, STEADY, Front, Hiccups, Launch
from engines.emulator.sequence import Step
from engines.emulator.spec import Tgi, Vllm
from engines.emulator.timing import Clockwork
from tests.engines.emulator.driving import engine, play, submits


def alone(profile, prompt, knobs=None):
    return play(engine(knobs or Vllm(), profile), submits(Job("a", prompt, 1))).first["a"]


def test_the_first_tokens_of_a_prompt_are_hidden_behind_the_reading_of_the_weights():
    profile = replace(STEADY, hidden_prefill=100)

    assert alone(profile, 100) == pytest.approx(0.010)
    assert alone(profile, 101) == pytest.approx(0.010 + 20e-6)


def test_attention_grows_with_the_square_of_the_prompt():
    profile = replace(STEADY, per_attention_s=1e-9, per_prefill_s=0.0)

    assert alone(profile, 4000) == pytest.approx(0.010 + 4000**2 / 2 * 1e-9)


@pytest.mark.parametrize(
    ("slots", "prompt", "launch_s"), [(1024, 100, 0.05), (32, 100, 0.06), (1024, 600, 0.07)]
)
def test_a_small_prompt_takes_as_long_as_its_launch_more_so_beyond_the_cuda_graphs(
    slots, prompt, launch_s
):
    profile = replace(
        STEADY, captured=Launch(0.0, 0.05), uncaptured=Launch(0.0, 0.06), large=Launch(0.0, 0.07)
    )

    assert alone(profile, prompt, Vllm(max_num_seqs=slots)) == pytest.approx(launch_s)


def test_a_launch_keeps_the_step_before_it_from_being_seen():
    slow = Launch(busy_s=0.05)
    profile = replace(STEADY, captured=slow, large=slow)
    acts = [*submits(Job("a", 1, 30)), *submits(Job("b", 200, 1), at_s=0.105)]

    story = play(engine(Vllm(), profile), acts)

    assert story.finished["a"].slowest_gap_s == pytest.approx(0.05)


def test_a_hiccup_is_seen_but_does_not_hold_up_the_gpu():
    always = replace(STEADY, hiccups=Hiccups(1.0, ((1.0, 0.002), (0.0, 0.002))))

    story = play(engine(Vllm(), always), submits(Job("a", 1, 100)))

    assert story.finished["a"].at_s == pytest.approx(100 * 0.010 + 0.002, abs=1e-4)


def test_hiccups_are_as_frequent_and_as_long_as_their_tail_says():
    profile = replace(STEADY, hiccups=Hiccups(0.1, ((1.0, 0.001), (0.2, 0.010), (0.0, 0.050))))
    clockwork = Clockwork(profile, 512, Random(5))
    late = []
    for _ in range(20_000):
        step = Step(decodes=1)
        clockwork.time(step, clockwork.gpu_free_s, None, idle=False)
        late.append(step.done_s - step.gpu_s)

    hiccups = [seconds for seconds in late if seconds]
    assert len(hiccups) / len(late) == pytest.approx(0.1, rel=0.1)
    assert sum(seconds > 0.010 for seconds in hiccups) / len(hiccups) == pytest.approx(
        0.2, rel=0.15
    )
    assert max(hiccups) <= 0.050


def test_launches_scatter_around_their_median():
    launch = Launch(busy_s=0.02, sigma=0.25)
    clockwork = Clockwork(replace(STEADY, captured=launch), 512, Random(5))
    times = []
    for index in range(5000):
        step = Step(prefill=1)
        clockwork.time(step, 100.0 * index, None, idle=False)
        times.append(step.done_s - 100.0 * index)

    assert median(times) == pytest.approx(0.02, rel=0.03)
    assert mean(times) > median(times)


def test_a_batch_beyond_the_cuda_graphs_decodes_more_slowly():
    profile = replace(STEADY, eager_decode_s=0.003)
    jobs = [Job(str(n), 1, 20, 20) for n in range(5)]

    within = play(engine(Tgi(graph_sequences=8), profile), submits(*jobs))
    beyond = play(engine(Tgi(graph_sequences=4), profile), submits(*jobs))

    assert within.finished["0"].slowest_gap_s == pytest.approx(0.010, rel=0.02)
    assert beyond.finished["0"].slowest_gap_s == pytest.approx(0.013, rel=0.02)


def test_planning_takes_longer_the_more_decode():
    profile = replace(STEADY, base_s=0.001, plan_per_sequence_s=0.002)
    jobs = [Job(str(n), 1, 20) for n in range(10)]

    story = play(engine(Vllm(async_scheduling=False), profile), submits(*jobs))

    assert story.finished["0"].slowest_gap_s == pytest.approx(0.021)


def test_the_api_server_takes_requests_in_one_after_another():
    profile = replace(STEADY, front=Front(accept_s=0.003, accept_per_token_s=1e-6))

    story = play(engine(Vllm(), profile), submits(Job("a", 1000, 1), Job("b", 1000, 1)))

    assert story.first["a"] == pytest.approx(0.004 + 0.010 + 0.020)
    assert story.first["b"] > story.first["a"] + 0.010


def test_more_tokens_than_the_api_server_can_send_pile_up():
    jobs = [Job(str(n), 1, 50) for n in range(20)]
    slow = replace(STEADY, front=Front(event_s=0.001))

    story = play(engine(Vllm(), slow), submits(*jobs))

    last = max(end.at_s for end in story.finished.values())
    assert last == pytest.approx(20 * 50 * 0.001 + 0.010, rel=0.05)


def test_requests_reach_the_engine_in_the_order_in_which_they_came():
    api = ApiServer(Front(accept_s=0.001, transit_per_token_s=1e-3))
    long = engine(Vllm())._sequence(Job("long", 100, 1), 0.0)
    short = engine(Vllm())._sequence(Job("short", 1, 1), 0.0)
    api.accept(0.0, long)
    api.accept(0.0, short)

    assert api.let_in(0.1) == []
    assert api.let_in(0.2) == [long, short]


def busy(turns: float) -> ApiServer:
    """Return a server with half of its time taken by the tokens of steps of 20 ms."""
    api = ApiServer(Front(event_s=0.001, turns=turns))
    for step in (1, 2):
        api.send(0.020 * step, 10)
    return api


def test_who_asks_a_busy_api_server_waits_for_tokens_in_some_of_its_turns():
    api, idle = busy(turns=8.0), ApiServer(Front(event_s=0.001, turns=8.0))

    for each in (api, idle):
        each.accept(0.060, engine(Vllm())._sequence(Job("any", 1, 1), 0.0))

    assert idle.next_ready_s() == 0.060
    assert api.next_ready_s() == pytest.approx(0.060 + 8 * 0.5**3 * 0.010)


def test_requests_that_come_within_a_few_turns_get_to_the_engine_together():
    api = busy(turns=8.0)

    for at_s in (0.060, 0.065, 0.079, 0.0801):
        api.accept(at_s, engine(Vllm())._sequence(Job("any", 1, 1), 0.0))

    times = [ready_s for ready_s, _ in api.incoming]
    assert times == [times[2]] * 3 + [pytest.approx(0.0901)]
    assert times[2] == pytest.approx(0.089)


def test_no_more_than_sixteen_come_together():
    api = busy(turns=8.0)

    for number in range(20):
        api.accept(0.060 + 0.0001 * number, engine(Vllm())._sequence(Job("any", 1, 1), 0.0))

    times = [ready_s for ready_s, _ in api.incoming]
    assert (len(set(times[:16])), len(set(times[16:]))) == (1, 1)
    assert times[0] < times[-1]


def test_deliveries_that_are_forgotten_leave_the_rest_as_they_were():
    deliveries = Deliveries()
    for step in range(1, 101):
        deliveries.add(step**2, 0.5)
    deliveries.extend([10_300.0, 10_400.0], 0.5)
    before = [
        (deliveries.at(clock, 0.5), deliveries.slowest_gap_s(60, clock)) for clock in (90, 102)
    ]

    deliveries.forget(50)

    assert before == [
        (deliveries.at(clock, 0.5), deliveries.slowest_gap_s(60, clock)) for clock in (90, 102)
    ]
    assert before[1] == (10_400.25, 300.0)


def test_a_long_run_forgets_what_nobody_needs(monkeypatch):
    monkeypatch.setattr(Deliveries, "_KEEP", 50)
    jobs = [Job(str(n), 5, 30 + 7 * n) for n in range(20)]

    story = play(engine(Vllm(max_num_seqs=4), H100_8B, kv_tokens=800), submits(*jobs))

    assert len(story.engine._deliveries._times) < 300
    monkeypatch.undo()
    assert (
        story.events
        == play(engine(Vllm(max_num_seqs=4), H100_8B, kv_tokens=800), submits(*jobs)).events
    )


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_serves(name):
    story = play(engine(Vllm(), PROFILES[name]), submits(Job("a", 500, 10)))

    assert 0 < story.first["a"] < story.finished["a"].at_s


@pytest.mark.parametrize(
    ("name", "tokens", "seconds"),
    [
        ("a100-8b", 1024, 0.0756),
        ("a100-8b", 4096, 0.275),
        ("h100-8b", 2048, 0.0503),
        ("h100-8b", 8000, 0.208),
    ],
)
def test_profiles_take_as_long_for_a_prompt_as_was_published_or_measured(name, tokens, seconds):
    steady = replace(PROFILES[name], jitter=0.0, front=Front(), hiccups=Hiccups())

    assert alone(steady, tokens, Vllm(max_model_len=9000)) == pytest.approx(seconds, rel=0.15)
