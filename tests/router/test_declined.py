import pytest

from engines.engine import Fault, FaultKind, Feature, Route
from policies.facts import RefusalReason, Refuse
from router import declined


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (RefusalReason.SATURATED, 429, "saturated"),
        (RefusalReason.QUEUE_FULL, 429, "queue_full"),
        (RefusalReason.NO_QUEUE, 429, "would_queue"),
        (RefusalReason.NO_ENDPOINTS, 503, "no_endpoints"),
        (RefusalReason.EXPIRED, 429, "queue_time_expired"),
        (RefusalReason.DEADLINE, 504, "deadline_unreachable"),
        (RefusalReason.RETRIES_SPENT, 503, "retries_spent"),
        (RefusalReason.UNKNOWN_MODEL, 404, "model_not_found"),
        (RefusalReason.UNSUPPORTED, 501, "unsupported"),
        (RefusalReason.TOO_LONG, 400, "context_length_exceeded"),
        (RefusalReason.SHUTTING_DOWN, 503, "shutting_down"),
    ],
)
def test_a_refusal_has_the_status_that_its_reason_means(
    reason: RefusalReason, status: int, code: str
):
    problem = declined.refused(Refuse(reason, "the detail"))

    assert (problem.status, problem.code) == (status, code)
    assert problem.message == "the detail"
    assert problem.dropped_reason == reason.value


@pytest.mark.parametrize("reason", RefusalReason)
def test_no_reason_is_forgotten(reason: RefusalReason):
    assert declined.refused(Refuse(reason, "d")).dropped_reason == reason.value


@pytest.mark.parametrize(
    "reason",
    [RefusalReason.SATURATED, RefusalReason.QUEUE_FULL, RefusalReason.NO_ENDPOINTS],
)
def test_who_may_come_back_is_told_when(reason: RefusalReason):
    problem = declined.refused(Refuse(reason, "d", retry_after_s=2.5))

    assert problem.retry_after_s == 2.5
    assert problem.should_retry is True


@pytest.mark.parametrize("reason", [RefusalReason.SATURATED, RefusalReason.EXPIRED])
def test_where_coming_back_cannot_help_the_client_is_told_not_to(reason: RefusalReason):
    assert declined.refused(Refuse(reason, "d")).should_retry is False


@pytest.mark.parametrize(
    "reason",
    [RefusalReason.NO_QUEUE, RefusalReason.DEADLINE, RefusalReason.UNSUPPORTED],
)
def test_some_refusals_are_never_repeated_by_the_client_library(reason: RefusalReason):
    assert declined.refused(Refuse(reason, "d", retry_after_s=1.0)).should_retry is False


def test_an_unknown_model_is_a_404_that_lists_the_known_ones():
    problem = declined.unknown_model("llama-4", ["qwen3-32b", "llama-3.1-8b"])

    assert problem.message == ("no pool serves model 'llama-4'; known: llama-3.1-8b, qwen3-32b")
    assert (problem.status, problem.code, problem.param) == (404, "model_not_found", "model")


def test_a_router_that_stops_sends_its_callers_to_the_next_one():
    problem = declined.shutting_down()

    assert problem.status == 503
    assert problem.retry_after_s == declined.SHUTDOWN_RETRY_AFTER_S
    assert problem.should_retry is True


def test_a_router_that_stops_keeps_a_better_hint():
    refuse = Refuse(RefusalReason.SHUTTING_DOWN, "draining", retry_after_s=7.0)

    assert declined.refused(refuse).retry_after_s == 7.0


def test_a_route_that_no_engine_has_is_a_501_that_is_not_repeated():
    problem = declined.unsupported([Route.EMBEDDINGS, Feature.TOKEN_IDS], "no such thing here")

    assert (problem.status, problem.code) == (501, "unsupported_route")
    assert problem.message == "no such thing here"
    assert problem.should_retry is False


def test_a_feature_that_no_engine_has_is_a_400_that_names_the_field():
    refuse = Refuse(RefusalReason.UNSUPPORTED, "no", missing=(Feature.MANY_CHOICES,))
    problem = declined.refused(refuse)

    assert (problem.status, problem.code) == (400, "unsupported_parameter")
    assert problem.param == "n"


def test_no_single_field_is_to_blame_for_several_features():
    problem = declined.unsupported([Feature.MANY_CHOICES, Feature.TOOLS], "no")

    assert problem.param is None


@pytest.mark.parametrize("feature", Feature)
def test_every_feature_has_a_field_to_blame(feature: Feature):
    assert declined.unsupported([feature], "m").param


@pytest.mark.parametrize(
    ("kind", "status", "code", "should_retry"),
    [
        (FaultKind.INVALID, 400, None, None),
        (FaultKind.CONTEXT_TOO_LONG, 400, "context_length_exceeded", None),
        (FaultKind.NOT_FOUND, 404, "model_not_found", None),
        (FaultKind.UNAUTHORIZED, 502, "engine_unauthorized", False),
        (FaultKind.UNSUPPORTED, 501, "unsupported", False),
        (FaultKind.TOO_LARGE, 413, "request_too_large", None),
        (FaultKind.BUSY, 429, "engine_busy", True),
        (FaultKind.BROKEN, 502, "engine_failed", None),
    ],
)
def test_an_engines_fault_has_the_status_that_it_means_to_the_caller(
    kind: FaultKind,
    status: int,
    code: str | None,
    should_retry: bool | None,
):
    problem = declined.failed(Fault(kind, "its words", param="prompt", retry_after_s=3.0))

    assert (problem.status, problem.code, problem.should_retry) == (status, code, should_retry)
    assert problem.message.endswith("its words")
    assert (problem.param, problem.retry_after_s) == ("prompt", 3.0)


@pytest.mark.parametrize("kind", FaultKind)
def test_no_fault_is_forgotten(kind: FaultKind):
    assert declined.failed(Fault(kind, "its words")).message


def test_the_engines_own_code_is_kept_where_the_request_is_wrong():
    fault = Fault(FaultKind.INVALID, "bad temperature", code="invalid_value")

    assert declined.failed(fault).code == "invalid_value"


def test_clients_find_openais_code_for_a_long_prompt_whatever_the_engine_called_it():
    fault = Fault(FaultKind.CONTEXT_TOO_LONG, "too long", code="exceed_context_size_error")

    assert declined.failed(fault).code == "context_length_exceeded"


def test_refused_credentials_are_the_callers_fault_only_if_they_were_the_callers():
    fault = Fault(FaultKind.UNAUTHORIZED, "no such key")

    assert declined.failed(fault).status == 502
    assert declined.failed(fault, callers_key=True).status == 401
    assert declined.failed(fault, callers_key=True).code == "invalid_api_key"


def test_credentials_do_not_change_other_faults():
    fault = Fault(FaultKind.BROKEN, "oops")

    assert declined.failed(fault, callers_key=True) == declined.failed(fault)


def test_a_lost_engine_is_a_502_and_a_silent_one_a_504():
    lost = declined.engine_lost("connection reset")
    silent = declined.engine_silent("the first token", 2.5)

    assert lost.status == 502
    assert "connection reset" in lost.message
    assert silent.status == 504
    assert "the first token within 2.5 s" in silent.message
