"""What openai's own client makes of the router's problems."""

from collections.abc import Callable

import httpx2
import openai
import pytest

from engines.engine import Fault, FaultKind, Route
from policies.facts import RefusalReason, Refuse
from router import declined, errors
from router.errors import Problem


def client(answer: Callable[[httpx2.Request], httpx2.Response], retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url="http://router/v1",
        api_key="none",
        max_retries=retries,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def ask(problem: Problem, retries: int = 0) -> tuple[openai.APIStatusError, int]:
    """Return what the client raised, and how often it had asked."""
    asked = 0

    def answer(_request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(
            problem.status, headers=errors.headers(problem), content=errors.body(problem)
        )

    with pytest.raises(openai.APIStatusError) as caught, client(answer, retries) as library:
        library.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    return caught.value, asked


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (errors.missing_model(), openai.BadRequestError),
        (errors.wrong_type("n", "an integer", "two"), openai.BadRequestError),
        (declined.failed(Fault(FaultKind.CONTEXT_TOO_LONG, "long")), openai.BadRequestError),
        (
            declined.failed(Fault(FaultKind.UNAUTHORIZED, "no"), callers_key=True),
            openai.AuthenticationError,
        ),
        (declined.unknown_model("m", []), openai.NotFoundError),
        (declined.refused(Refuse(RefusalReason.SATURATED, "full")), openai.RateLimitError),
        (declined.refused(Refuse(RefusalReason.NO_QUEUE, "full")), openai.RateLimitError),
        (declined.failed(Fault(FaultKind.BUSY, "full")), openai.RateLimitError),
        (declined.unsupported([Route.SCORE], "m"), openai.InternalServerError),
        (declined.failed(Fault(FaultKind.BROKEN, "oops")), openai.InternalServerError),
        (declined.shutting_down(), openai.InternalServerError),
        (declined.refused(Refuse(RefusalReason.DEADLINE, "late")), openai.InternalServerError),
    ],
    ids=lambda value: getattr(value, "code", None) or getattr(value, "__name__", None),
)
def test_the_client_raises_the_class_its_user_expects(
    problem: Problem, expected: type[openai.APIStatusError]
):
    error, _ = ask(problem)

    assert type(error) is expected
    assert error.status_code == problem.status
    assert (error.code, error.type) == (problem.code, problem.type)
    assert error.param == problem.param
    assert problem.message in str(error)


@pytest.mark.parametrize(
    "problem",
    [
        declined.refused(Refuse(RefusalReason.DEADLINE, "late")),
        declined.refused(Refuse(RefusalReason.NO_QUEUE, "full", retry_after_s=0.001)),
        declined.unsupported([Route.SCORE], "m"),
        errors.missing_model(),
        errors.body_too_large(10),
    ],
    ids=lambda problem: problem.code,
)
def test_what_cannot_be_mended_by_asking_again_is_asked_once(problem: Problem):
    _, asked = ask(problem, retries=2)

    assert asked == 1


def test_what_can_be_mended_by_waiting_is_asked_again():
    refuse = Refuse(RefusalReason.SATURATED, "full", retry_after_s=0.001)

    _, asked = ask(declined.refused(refuse), retries=2)

    assert asked == 3


def test_an_error_inside_a_stream_is_raised_with_its_message():
    event = errors.event(declined.engine_lost("connection reset"))
    chunk = b'data: {"id":"1","object":"chat.completion.chunk","choices":[]}\n\n'

    def answer(_request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=chunk + event)

    with client(answer) as library:
        stream = library.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert next(stream).id == "1"
        with pytest.raises(openai.APIError, match="connection reset"):
            next(stream)
