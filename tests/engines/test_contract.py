"""What every adapter must keep, taken from the registry: a new one is covered by being there."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.engine import Dialect, Kind, Question, Route
from engines.registry import ENGINES
from tests.engines.exchanges import every
from tests.engines.strategies import anything, documents, texts

for_every_engine = pytest.mark.parametrize("engine", list(ENGINES.values()), ids=list(ENGINES))

# Each test runs once for every engine.
for_a_while = settings(max_examples=40)

models = texts.filter(bool)

questions = st.builds(
    lambda document, route, rank, urgency, model: Question(
        route=route,
        body=orjson.dumps(document),
        document=document,
        model=model,
        stream=document.get("stream") is True,
        sla_rank=rank,
        urgency=urgency,
        id="r-1",
    ),
    documents.map(lambda document: orjson.loads(orjson.dumps(document))),
    st.sampled_from(Route),
    st.integers(0, 2),
    st.integers(0, 7),
    models,
)

dialects = st.builds(Dialect, st.none() | models, st.booleans(), st.none() | st.integers(1, 4096))


def test_every_kind_has_an_adapter_that_says_so():
    assert {kind: engine.traits.kind for kind, engine in ENGINES.items()} == {
        kind: kind for kind in Kind
    }


@for_every_engine
def test_traits_are_usable(engine):
    traits = engine.traits

    assert Route.CHAT in traits.routes
    assert traits.offers == traits.routes | traits.features
    assert traits.health_path.startswith("/")
    assert traits.load_path is None or traits.load_path.startswith("/")
    assert traits.discovery_paths
    assert traits.keep_alive_s > 0


@for_every_engine
@for_a_while
@given(question=questions, dialect=dialects)
def test_preparing_twice_gives_the_same_and_changes_nothing_of_the_question(
    engine, question, dialect
):
    before = orjson.dumps(question.document)

    first = engine.prepare(question, dialect)

    assert engine.prepare(question, dialect) == first
    assert orjson.dumps(question.document) == before
    assert isinstance(orjson.loads(first.body), dict)
    assert first.path == question.route
    assert all(name == name.lower() for name, _ in first.headers)


@for_every_engine
@for_a_while
@given(question=questions)
def test_without_a_reason_to_change_them_the_callers_bytes_go_on(engine, question):
    if engine.traits.kind is Kind.TGI:
        question = replace(
            question, document={"prompt": "hi", "max_tokens": 5, "model": "tgi"}, body=b"{ }"
        )

    prepared = engine.prepare(question, Dialect())

    assert prepared.body is question.body


@for_every_engine
@for_a_while
@given(question=questions, model=models)
def test_the_engines_own_name_for_the_model_is_used(engine, question, model):
    prepared = engine.prepare(question, Dialect(upstream_model=model))

    assert orjson.loads(prepared.body)["model"] == model


@for_every_engine
@for_a_while
@given(status=st.integers(100, 999), body=anything)
def test_any_refusal_becomes_a_fault_with_a_message(engine, status, body):
    fault = engine.read_fault(status, body)

    assert fault.message.strip()
    assert len(fault.message) <= 2000


@for_every_engine
@for_a_while
@given(payload=anything)
def test_any_event_can_be_asked_whether_it_is_a_fault(engine, payload):
    fault = engine.read_event_fault(payload)

    assert fault is None or fault.message.strip()


@for_every_engine
@for_a_while
@given(content=texts, reason=st.sampled_from([None, "stop", "error", "abort"]))
def test_an_answer_about_errors_is_no_error(engine, content, reason):
    chunk = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}],
        "error": None,
        "usage": None,
    }

    assert engine.read_event_fault(orjson.dumps(chunk)) is None


@for_every_engine
@for_a_while
@given(tail=anything, stream=st.booleans())
def test_usage_can_be_looked_for_in_anything(engine, tail, stream):
    usage = engine.read_usage(tail, stream=stream)

    told = [] if usage is None else [usage.prompt_tokens, usage.output_tokens, usage.cached_tokens]
    assert all(count is None or count >= 0 for count in told)


@for_every_engine
@for_a_while
@given(answer=anything, question=questions)
def test_repair_takes_anything_and_is_done_after_once(engine, answer, question):
    event = engine.repair_event(answer, question)
    body = engine.repair_body(answer, question)

    assert engine.repair_event(event, question) == event
    assert engine.repair_body(body, question) == body


@for_every_engine
@for_a_while
@given(text=texts | anything.map(lambda raw: raw.decode(errors="replace")))
def test_load_can_be_read_from_anything(engine, text):
    load = engine.read_load(text)

    assert load.running is None or load.running >= 0


@for_every_engine
@for_a_while
@given(data=st.data())
def test_discovery_can_be_read_from_anything(engine, data):
    paths = st.sampled_from(engine.traits.discovery_paths)

    found = engine.read_discovery(data.draw(st.dictionaries(paths, anything)))

    assert all(found.models)


@for_every_engine
def test_the_probe_asks_for_one_token_on_one_of_the_engines_routes(engine):
    probe = engine.probe("m")
    asked = orjson.loads(probe.body)

    assert probe.path in engine.traits.routes
    assert asked["max_tokens"] == 1
    assert not asked.get("stream")
    assert not probe.repairs


@pytest.mark.parametrize("exchange", every(), ids=lambda exchange: exchange.name)
def test_only_recorded_faults_are_read_as_faults(exchange):
    """Every event of every recorded stream, and the names of those that end in a fault."""
    engine = ENGINES[exchange.kind]
    faults = [engine.read_event_fault(payload) for payload in exchange.payloads]

    ends_in_fault = exchange.is_stream and any(
        piece in exchange.name for piece in ("/stream_", "native_stream", "kill9_stream")
    )
    assert sum(fault is not None for fault in faults) == int(ends_in_fault)


@pytest.mark.parametrize(
    "exchange",
    [
        exchange
        for exchange in every()
        if exchange.path in set(Route) and exchange.status < 400 and exchange.kind is not Kind.TGI
    ],
    ids=lambda exchange: exchange.name,
)
def test_an_answer_whose_name_is_given_back_keeps_all_its_other_bytes(exchange):
    engine = ENGINES[exchange.kind]
    pieces = exchange.payloads if exchange.is_stream else [exchange.body]
    names = {name for piece in pieces if (name := _model_in(piece)) is not None}
    question = Question(Route(exchange.path), b"{}", {}, "public", exchange.is_stream, 0)

    repaired = [engine.repair_body(piece, question) for piece in pieces]

    (own,) = names or {"unnamed"}
    given_back, given = b'"model":"public"', f'"model":"{own}"'.encode()
    assert [piece.replace(given_back, given) for piece in repaired] == pieces
    assert sum(_model_in(piece) == "public" for piece in repaired) == sum(
        _model_in(piece) is not None for piece in pieces
    )


def _model_in(piece):
    if piece == b"[DONE]":
        return None
    document = orjson.loads(piece)
    inner = document.get("response") or document.get("message") or document
    return inner.get("model")
