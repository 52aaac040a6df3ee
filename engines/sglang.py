"""SGLang: OpenAI's bodies as they are; higher priority first; a queue-full stream begins with 200."""

from collections.abc import Mapping

from engines import cards, edits, exposition, faults, usage, words
from engines.edits import UNCHANGED
from engines.engine import (
    Dialect,
    Discovery,
    EngineLoad,
    Fault,
    FaultKind,
    Feature,
    Kind,
    Prepared,
    Question,
    Route,
    TokenUsage,
    Traits,
)
from engines.fields import as_count, as_list, as_number, as_object, as_text, parsed

TELLTALES: faults.Telltales = (("is not a multimodal model", FaultKind.UNSUPPORTED),)

_RUNNING = ("sglang:num_running_reqs", "sglang_num_running_reqs")
_WAITING = ("sglang:num_queue_reqs", "sglang_num_waiting_reqs")
_KV_USAGE = ("sglang:token_usage", "sglang_token_usage")
_KV_USED = ("sglang:num_used_tokens", "sglang_num_used_tokens")
_KV_CAPACITY = ("sglang:max_total_num_tokens", "sglang_max_total_num_tokens")
_GENERATED = ("sglang:generation_tokens_total",)
_RETRACTED = ("sglang:num_retracted_reqs_total",)
_WANTED = frozenset(
    {*_RUNNING, *_WAITING, *_KV_USAGE, *_KV_USED, *_KV_CAPACITY, *_GENERATED, *_RETRACTED}
)


class SGLang:
    """Read in 0.5.23."""

    traits = Traits(
        kind=Kind.SGLANG,
        routes=frozenset(Route),
        # Of these, all but `suffix` are ignored without a word.
        features=frozenset(Feature) - {Feature.BEST_OF, Feature.PROMPT_LOGPROBS, Feature.SUFFIX},
        health_path="/health",
        load_path="/v1/loads",
        discovery_paths=("/v1/models", "/server_info", "/get_server_info"),
        keep_alive_s=4.0,  # uvicorn closes after 5
        health_proves_progress=True,
    )

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return the caller's bytes, with a priority where it is honoured.

        Priority is -(8 x class + urgency), 0 (interactive, most urgent) to -23, and higher is
        sooner. Its default rule, to preempt when priorities differ by more than 10, thus lets
        interactive requests push out bulk, and never a request of the same class. It travels in the
        body: the header for it is younger than the field.
        """
        changes: Mapping[str, object] = UNCHANGED
        if dialect.honours_priority:
            changes = {"priority": -(question.sla_rank * 8 + question.urgency)}
        return edits.prepare(question, dialect.upstream_model, changes)

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a refusal: a flat object."""
        said = words.of_answer(status, body)
        return faults.fault(said, faults.usual_kind(said, TELLTALES))

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read an error after the status line: the same object, wrapped, with its status as code."""
        said = words.of_event(payload)
        return None if said is None else faults.fault(said, faults.usual_kind(said, TELLTALES))

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read the usage; a stream has it where the caller or the server asked for it."""
        return usage.read_usage(tail)

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(payload, question)

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(body, question)

    def read_load(self, text: str) -> EngineLoad:
        """Read `/v1/loads`, or Prometheus text of it or of `/metrics`; ranks are added up."""
        ranks = as_list(as_object(parsed(text)).get("loads"))
        return _of_ranks([as_object(rank) for rank in ranks]) if ranks else _of_metrics(text)

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read models (adapters among them), context, running requests at once, version."""
        found = cards.cards(answers.get("/v1/models"))
        told = answers.get("/server_info") or answers.get("/get_server_info") or b""
        server = as_object(parsed(told))
        return Discovery(
            models=cards.names(found),
            max_context_tokens=cards.context_tokens(found)
            or as_count(server.get("context_length")),
            max_in_flight=_at_once(server),
            version=as_text(server.get("version")),
        )

    def probe(self, model: str) -> Prepared:
        """Ask for one token."""
        document = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        return edits.probe(Route.COMPLETIONS.value, document)


def _of_ranks(ranks: list[Mapping[str, object]]) -> EngineLoad:
    """Read data-parallel ranks; the snapshot holds no counter that moves with every step."""
    usages = [share for rank in ranks if (share := as_number(rank.get("token_usage"))) is not None]
    return EngineLoad(
        running=_sum(ranks, "num_running_reqs"),
        waiting=_sum(ranks, "num_waiting_reqs"),
        kv_usage=sum(usages) / len(usages) if usages else None,
        kv_capacity_tokens=_sum(ranks, "max_total_num_tokens"),
        kv_reserved_tokens=_sum(ranks, "num_used_tokens"),
    )


def _sum(ranks: list[Mapping[str, object]], name: str) -> int | None:
    told = [count for rank in ranks if (count := as_count(rank.get(name))) is not None]
    return sum(told) if told else None


def _of_metrics(text: str) -> EngineLoad:
    """Read Prometheus text; every tensor-parallel rank of an engine tells the same."""
    samples = exposition.read(text, _WANTED).where("tp_rank", "0")
    return EngineLoad(
        running=samples.count(*_RUNNING),
        waiting=samples.count(*_WAITING),
        kv_usage=samples.mean(*_KV_USAGE),
        kv_capacity_tokens=samples.count(*_KV_CAPACITY),
        kv_reserved_tokens=samples.count(*_KV_USED),
        progress=samples.total(*_GENERATED),
        preemptions=samples.total(*_RETRACTED),
    )


def _at_once(server: Mapping[str, object]) -> int | None:
    """Return how many requests may run at once: what the schedulers found, else what was set."""
    states = [as_object(state) for state in as_list(server.get("internal_states"))]
    return _sum(states, "effective_max_running_requests_per_dp") or as_count(
        server.get("max_running_requests")
    )
