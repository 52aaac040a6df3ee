"""Any OpenAI server: nothing is assumed, everything may be tried."""

from engines.engine import Dialect, Discovery, EngineLoad, Feature, Route
from engines.openai import OpenAI
from tests.engines.questions import ask

OPENAI = OpenAI()


def test_everything_may_be_tried():
    assert OPENAI.traits.routes == set(Route)
    assert OPENAI.traits.features == set(Feature)


def test_no_priority_is_sent_to_a_server_that_may_refuse_it():
    question = ask({"model": "m"})

    prepared = OPENAI.prepare(question, Dialect(honours_priority=True))

    assert (prepared.body, prepared.headers) == (question.body, ())


def test_there_is_no_load_to_read():
    assert OPENAI.read_load("running 5\n") == EngineLoad()


def test_models_are_listed_once_and_cards_without_a_name_are_passed_over():
    models = b'{"data":[{"id":"a"},{"id":""},7,{"id":"a"},{"id":"b","max_model_len":0}]}'

    assert OPENAI.read_discovery({"/v1/models": models}) == Discovery(models=("a", "b"))
