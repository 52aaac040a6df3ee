from enum import StrEnum

import pytest

from policies import routes
from policies.facts import RefusalReason, Refuse
from policies.ordering import Lane
from policies.policy import Policy
from policies.routes import Catalogue
from tests.policies.builders import BULK, FAST, INTERACTIVE, WIDE, ask, refused, state


class Need(StrEnum):
    CHAT = "/v1/chat/completions"
    TOOLS = "tools"
    IMAGES = "image input"


def needs(*some):
    return frozenset(some)


def catalogue(*endpoints):
    return Catalogue(endpoints, Policy())


def ids(lane):
    assert isinstance(lane, Lane), lane
    return [endpoint.id for endpoint in lane.endpoints]


def lane_of(endpoints, asked):
    route = catalogue(*endpoints).route("m", asked.facts.needs)
    assert not isinstance(route, Refuse), route
    return route.lane(asked)


def test_a_model_goes_where_it_is_served():
    fleet = [
        state("a"),
        state("b", models=frozenset({"m", "lora"})),
        state("c", models=frozenset({"o"})),
    ]

    assert ids(lane_of(fleet, ask())) == ["a", "b"]


def test_an_unknown_model_is_refused_with_the_known_names():
    refusal = refused(catalogue(state(models=frozenset({"o", "m"}))).route("x", needs()))

    assert refusal.reason is RefusalReason.UNKNOWN_MODEL
    assert refusal.known == ("m", "o")


def test_a_request_goes_where_all_it_needs_is_offered():
    fleet = [
        state("plain", offers=needs(Need.CHAT)),
        state("able", offers=needs(Need.CHAT, Need.TOOLS)),
    ]

    assert ids(lane_of(fleet, ask(needs=needs(Need.CHAT)))) == ["plain", "able"]
    assert ids(lane_of(fleet, ask(needs=needs(Need.CHAT, Need.TOOLS)))) == ["able"]


def test_what_nobody_offers_is_named():
    found = catalogue(state(offers=needs(Need.CHAT))).route("m", needs(Need.CHAT, Need.TOOLS))

    assert refused(found).detail == "no endpoint of model 'm' offers: tools"


def test_what_nobody_offers_together_is_named():
    fleet = catalogue(state("a", offers=needs(Need.TOOLS)), state("b", offers=needs(Need.IMAGES)))

    found = fleet.route("m", needs(Need.TOOLS, Need.IMAGES))

    assert refused(found).detail == "no endpoint of model 'm' offers together: image input, tools"


CONTEXTS = [
    state("short", max_context_tokens=1000),
    state("long", max_context_tokens=8000),
]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"known_prompt_tokens": 999}, ["short", "long"]),
        ({"known_prompt_tokens": 1000}, ["long"]),
        ({"known_prompt_tokens": 500, "max_tokens": 501}, ["long"]),
        ({"known_prompt_tokens": 7999}, ["long"]),
        # The engine may know how to bound the answer; only a prompt that is too long is hopeless.
        ({"known_prompt_tokens": 500, "max_tokens": 99_999}, ["long"]),
        # About 10,800 tokens, but perhaps only half of that.
        ({"prompt_bytes": 40_000}, ["long"]),
    ],
)
def test_a_request_goes_where_the_context_is_long_enough(changes, expected):
    assert ids(lane_of(CONTEXTS, ask(**changes))) == expected


@pytest.mark.parametrize("changes", [{"known_prompt_tokens": 8000}, {"prompt_bytes": 80_000}])
def test_a_prompt_that_is_surely_too_long_is_refused_with_the_limit(changes):
    refusal = refused(lane_of(CONTEXTS, ask(**changes)))

    assert refusal.reason is RefusalReason.TOO_LONG
    assert "8000 tokens" in refusal.detail


def test_an_unknown_context_is_taken_for_long_enough():
    fleet = [*CONTEXTS, state("unknown")]

    assert ids(lane_of(fleet, ask(known_prompt_tokens=10**6))) == ["unknown"]


def test_an_answer_that_predictable_endpoints_stall_in_goes_elsewhere():
    fleet = [state("fast", FAST, max_output_tokens=100), state("wide", WIDE)]

    assert ids(lane_of(fleet, ask(INTERACTIVE, max_tokens=100))) == ["fast", "wide"]
    assert ids(lane_of(fleet, ask(INTERACTIVE, max_tokens=101))) == ["wide"]


def test_equal_requests_share_a_lane_and_classes_have_their_own():
    route = catalogue(state()).route("m", needs())
    assert not isinstance(route, Refuse)

    assert route.lane(ask(BULK)) is route.lane(ask(BULK))
    assert route.lane(ask(BULK)) is not route.lane(ask(INTERACTIVE))


def test_routes_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(routes, "MOST_ROUTES", 2)
    fleet = catalogue(state(offers=needs(*Need)))
    first = fleet.route("m", needs())

    assert fleet.route("m", needs()) is first
    for need in Need:
        fleet.route("m", needs(need))

    assert fleet.route("m", needs()) is not first
    assert len(fleet.models["m"]._routes) <= 2


def test_the_rate_at_which_a_model_is_served_outlives_a_change():
    before = catalogue(state())
    before.models["m"].backlog.drains[0].ended(1.0)

    after = Catalogue([state(), state(models=frozenset({"o"}))], Policy(), before)

    assert after.models["m"].backlog is before.models["m"].backlog
    assert after.models["o"].backlog.drains[0].per_s(1.0) == 0.0
