"""vLLM: priority, load and discovery, from recordings of 0.32 and the names of other versions."""

import pytest

from engines.engine import Dialect, Discovery, EngineLoad, Feature
from engines.vllm import Vllm
from tests.engines.exchanges import body_of, read
from tests.engines.questions import ask

VLLM = Vllm()


@pytest.mark.parametrize(
    ("rank", "urgency", "priority"), [(0, 0, b"0"), (0, 7, b"7"), (1, 0, b"8"), (2, 7, b"23")]
)
def test_priority_travels_in_a_header_and_lower_is_sooner(rank, urgency, priority):
    question = ask({"model": "m", "priority": 99}, rank=rank, urgency=urgency)

    prepared = VLLM.prepare(question, Dialect(honours_priority=True))

    assert prepared.headers == ((b"x-vllm-priority", priority),)
    assert prepared.body is question.body


def test_an_engine_that_ignores_priority_is_told_none():
    assert VLLM.prepare(ask({"model": "m"}), Dialect()).headers == ()


def test_a_renamed_model_is_named_back_in_the_answer():
    question = ask({"model": "public", "x": [1.5, None]})

    prepared = VLLM.prepare(question, Dialect(upstream_model="/models/own"))

    assert prepared.body == b'{"model":"/models/own","x":[1.5,null]}'
    assert prepared.repairs
    assert VLLM.repair_event(b'{"id":"1", "model": "/models/own","choices":[]}', question) == (
        b'{"id":"1", "model": "public","choices":[]}'
    )


def test_a_model_that_is_called_the_same_upstream_needs_no_repair():
    question = ask({"model": "m"})

    prepared = VLLM.prepare(question, Dialect(upstream_model="m"))

    assert prepared.body is question.body
    assert not prepared.repairs


def test_the_load_of_a_busy_engine_is_read():
    load = VLLM.read_load(body_of("vllm032_full/metrics_under_load").decode())

    assert load == EngineLoad(
        running=2,
        waiting=6,
        kv_usage=0.0019533634476864847,
        kv_capacity_tokens=1_048_576,
        progress=2091.0,
        preemptions=0.0,
        running_loras=frozenset(),
    )


def test_the_load_of_a_full_engine_is_read():
    load = VLLM.read_load(body_of("vllm032_kvpressure/metrics").decode())

    assert (load.running, load.waiting, load.kv_usage) == (7, 1, 1.0)
    assert load.kv_capacity_tokens == 8192


def test_older_names_are_understood_and_parallel_engines_added_up():
    load = VLLM.read_load(
        'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 4\n'
        'vllm:gpu_cache_usage_perc{engine="0"} 0.25\nvllm:gpu_cache_usage_perc{engine="1"} 0.75\n'
        "vllm:generation_tokens_total 50\nvllm:num_preemptions 2\n"
        'vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="100"} 1\n'
        'vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="None"} 1\n'
    )

    assert load == EngineLoad(
        running=7, kv_usage=0.5, kv_capacity_tokens=1600, progress=50.0, preemptions=2.0
    )


def test_of_the_adapter_lines_the_newest_counts():
    load = VLLM.read_load(
        'vllm:lora_requests_info{running_lora_adapters="law, med",max_lora="4"} 200\n'
        'vllm:lora_requests_info{running_lora_adapters="tax",max_lora="4"} 100\n'
    )

    assert load.running_loras == {"law", "med"}


def test_models_and_adapters_are_discovered():
    answers = {
        "/v1/models": read("vllm032_full/models_with_lora").body,
        "/version": read("vllm032_full/version").body,
    }

    assert VLLM.read_discovery(answers) == Discovery(
        models=("tiny", "lora-a", "lora-b"), max_context_tokens=2048, version="0.32.0"
    )


def test_what_vllm_ignores_or_refuses_is_not_offered():
    assert not {Feature.BEST_OF, Feature.SUFFIX} & VLLM.traits.features
