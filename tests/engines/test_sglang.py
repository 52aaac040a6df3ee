"""SGLang: priority, load in three forms, and discovery."""

import orjson
import pytest

from engines.engine import Dialect, Discovery, EngineLoad
from engines.sglang import SGLang
from tests.engines.exchanges import read
from tests.engines.questions import ask

SGLANG = SGLang()


@pytest.mark.parametrize(
    ("rank", "urgency", "priority"), [(0, 0, 0), (0, 7, -7), (1, 0, -8), (2, 7, -23)]
)
def test_priority_travels_in_the_body_and_higher_is_sooner(rank, urgency, priority):
    question = ask({"model": "m", "priority": 99, "n": 1}, rank=rank, urgency=urgency)

    prepared = SGLANG.prepare(question, Dialect(honours_priority=True))

    assert orjson.loads(prepared.body) == {"model": "m", "priority": priority, "n": 1}
    assert not prepared.repairs


def test_interactive_preempts_bulk_and_no_class_preempts_itself():
    """SGLang preempts where priorities differ by more than 10."""

    def priority(rank, urgency):
        question = ask({"model": "m"}, rank=rank, urgency=urgency)
        prepared = SGLANG.prepare(question, Dialect(honours_priority=True))
        return orjson.loads(prepared.body)["priority"]

    assert priority(0, 3) - priority(2, 3) > 10
    assert all(priority(rank, 0) - priority(rank, 7) <= 10 for rank in range(3))


def test_ranks_are_added_up():
    load = SGLANG.read_load(read("sglang_from_source/loads").body.decode())

    assert load == EngineLoad(
        running=8, waiting=2, kv_usage=0.375, kv_capacity_tokens=40960, kv_reserved_tokens=15360
    )


def test_the_same_as_prometheus_text_tells_the_same():
    text = read("sglang_from_source/loads_prometheus").body.decode()

    assert SGLANG.read_load(text) == SGLANG.read_load(
        read("sglang_from_source/loads").body.decode()
    )


def test_tensor_parallel_ranks_are_not_counted_twice():
    load = SGLANG.read_load(read("sglang_from_source/metrics").body.decode())

    assert load == EngineLoad(
        running=5,
        waiting=2,
        kv_usage=0.5,
        kv_capacity_tokens=20480,
        kv_reserved_tokens=10240,
        progress=7557.0,
    )


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_models_context_and_slots_are_discovered_under_both_names(path):
    answers = {
        "/v1/models": read("sglang_from_source/models").body,
        path: read("sglang_from_source/server_info").body,
    }

    assert SGLANG.read_discovery(answers) == Discovery(
        models=("qwen/qwen2.5-0.5b-instruct", "law"),
        max_context_tokens=32768,
        max_in_flight=256,
        version="0.5.23",
    )


def test_what_was_configured_stands_in_for_what_is_not_told():
    found = SGLANG.read_discovery(
        {"/server_info": b'{"context_length":4096,"max_running_requests":8}'}
    )

    assert (found.max_context_tokens, found.max_in_flight) == (4096, 8)


def test_a_rank_that_tells_nonsense_is_passed_over():
    load = SGLANG.read_load(
        '{"loads":[{"num_running_reqs":-1,"token_usage":"half"},'
        '{"num_running_reqs":2,"token_usage":true},{"num_running_reqs":3,"token_usage":0.5},7]}'
    )

    assert (load.running, load.kv_usage, load.waiting) == (5, 0.5, None)
