"""What is asked now and then: models, health, readiness, metrics, and where everything is.

A Starlette application for all that is not inference. Errors have the same shape as everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from time import monotonic
from typing import Final, Protocol, cast

import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path
from starlette.types import Lifespan

from engines.engine import Route
from router.access.gate import Gate
from router.access.keyring import Failure
from router.declined import unknown_model
from router.errors import Problem, body, headers, internal, no_such_path, wrong_method
from router.exposition import exposition
from router.metrics import Metrics
from router.version import headway_version
from router.wire.heads import RequestHead

INFERENCE: Final = frozenset(map(str, Route))


@dataclass(frozen=True, slots=True)
class Model:
    """A public name, and who serves it."""

    id: str
    pools: tuple[str, ...]
    max_context_tokens: int | None
    """Prompt and answer together, at the endpoint that takes most; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """How much of a pool can be sent requests."""

    endpoints: int
    serving: int
    """Those among them that are up and not draining."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this router should be sent traffic, and why not."""

    draining: bool
    pools: Mapping[str, PoolState]
    replicas: Mapping[str, object] | None = None
    """How the router stands with others; None: it is the only one."""

    @property
    def is_ready(self) -> bool:
        """True where at least one pool can serve and the router is not on its way out."""
        return not self.draining and any(pool.serving for pool in self.pools.values())


class Fleet(Protocol):
    """What the site has to know of the pools."""

    def models(self) -> Sequence[Model]:
        """Every model of every pool, once, in a steady order."""
        ...

    def readiness(self) -> Readiness:
        """How things stand at this moment."""
        ...


def site(  # noqa: PLR0913 # all that the pages tell of
    fleet: Fleet,
    metrics: Metrics,
    *,
    started_at_s: int,
    beside: CollectorRegistry | None = None,
    more: Sequence[BaseRoute] = (),
    lifespan: Lifespan[Starlette] | None = None,
    gate: Gate | None = None,
    clock: Callable[[], float] = monotonic,
) -> Starlette:
    """Return the application.

    `started_at_s` (since 1970) is what `/v1/models` says of each model's creation; `beside` is
    scraped with `metrics`; `more` are routes of other parts of the router; `lifespan` runs around
    all requests. `gate`: lists only the models that the caller's key is good for; None: all, to all.
    """
    pages = _Pages(fleet, metrics, started_at_s, beside)
    guarded = _Guarded(pages, gate, clock)
    routes: list[BaseRoute] = [
        Path("/", pages.root),
        Path("/healthz", pages.healthz),
        Path("/readyz", pages.readyz),
        Path("/metrics", pages.metrics),
        Path("/v1/models", guarded.models),
        Path("/v1/models/{id:path}", guarded.model),
        *more,
    ]
    refusals = _Refusals(routes)
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            404: refusals.no_such_path,
            405: refusals.wrong_method,
            Exception: refusals.unexpected,
        },
    )
    # A redirected POST is sent again without its body by many clients; better to be told.
    app.router.redirect_slashes = False
    return app


class _Pages:
    """The answers to what exists."""

    def __init__(
        self,
        fleet: Fleet,
        metrics: Metrics,
        started_at_s: int,
        beside: CollectorRegistry | None,
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._started_at_s = started_at_s
        self._beside = beside

    async def root(self, request: Request) -> Response:
        """Say what this is and where to look."""
        return _json(
            {
                "name": "headway",
                "version": headway_version(),
                "is": "a latency-aware request router between LLM inference engines",
                "openai_base_url": f"{request.base_url}v1",
                "models": "/v1/models",
                "alive": "/healthz",
                "ready": "/readyz",
                "metrics": "/metrics",
                "inference": sorted(INFERENCE),
            }
        )

    async def healthz(self, _: Request) -> Response:
        """Say that the process lives."""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Say whether traffic may come, and what each pool can take."""
        readiness = self._fleet.readiness()
        pools = {
            name: {"endpoints": pool.endpoints, "serving": pool.serving}
            for name, pool in readiness.pools.items()
        }
        document: dict[str, object] = {
            "ready": readiness.is_ready,
            "draining": readiness.draining,
            "pools": pools,
        }
        if readiness.replicas is not None:
            document["replicas"] = readiness.replicas
        return _json(document, status=200 if readiness.is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Write down every count."""
        accept = request.headers.get("accept", "")
        content_type, text = await exposition(self._metrics, accept, self._beside)
        return Response(text, headers={"content-type": content_type})

    def models(self, may_use: Callable[[str], bool]) -> Response:
        """List the models of every pool that a caller may use."""
        cards = [self._card(each) for each in self._fleet.models() if may_use(each.id)]
        return _json({"object": "list", "data": cards})

    def model(self, name: str, may_use: Callable[[str], bool]) -> Response:
        """Describe one model; its name may hold slashes."""
        models = {model.id: model for model in self._fleet.models() if may_use(model.id)}
        if name not in models:
            return _answer(unknown_model(name, models))
        return _json(self._card(models[name]))

    def _card(self, model: Model) -> dict[str, object]:
        return {
            "id": model.id,
            "object": "model",
            "created": self._started_at_s,
            "owned_by": "headway",
            "max_model_len": model.max_context_tokens,
            "pools": model.pools,
        }


class _Guarded:
    """The answers for holders of keys, where keys are on."""

    def __init__(self, pages: _Pages, gate: Gate | None, clock: Callable[[], float]) -> None:
        self._pages = pages
        self._gate = gate
        self._clock = clock

    async def models(self, request: Request) -> Response:
        """List models."""
        may_use = self._entitled(request)
        return may_use if isinstance(may_use, Response) else self._pages.models(may_use)

    async def model(self, request: Request) -> Response:
        """Describe one."""
        may_use = self._entitled(request)
        if isinstance(may_use, Response):
            return may_use
        return self._pages.model(request.path_params["id"], may_use)

    def _entitled(self, request: Request) -> Callable[[str], bool] | Response:
        if self._gate is None:
            return lambda _: True
        head = RequestHead()
        head.headers = request.headers.raw
        shown = self._gate.identify(head, self._clock())
        if isinstance(shown, Failure):
            return _answer(self._gate.refusal(shown))
        return shown.holder.may_use


class _Refusals:
    """The answers to what does not exist, or went wrong."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._known = {path: ["POST"] for path in INFERENCE}
        for route in routes:
            if isinstance(route, Path):
                methods = (route.methods or set()) - {"HEAD"}
                self._known.setdefault(route.path, []).extend(sorted(methods))

    async def no_such_path(self, request: Request, _: Exception) -> Response:
        """Name the path that was meant, or all there are."""
        method, path = request.method, request.url.path
        if path in INFERENCE:
            return _answer(wrong_method(method, path, ["POST"]), allow="POST")
        near = get_close_matches(path, self._known, n=3) or list(self._known)
        known = [f"{each} {path}" for path in near for each in self._known[path]]
        return _answer(no_such_path(method, path, known))

    async def wrong_method(self, request: Request, error: Exception) -> Response:
        """Name the methods that the path takes."""
        allow = (cast("HTTPException", error).headers or {}).get("Allow", "")
        allowed = sorted(allow.split(", "))  # Starlette keeps them in a set
        methods = [each for each in allowed if each != "HEAD"]
        refusal = wrong_method(request.method, request.url.path, methods)
        return _answer(refusal, allow=", ".join(allowed))

    async def unexpected(self, request: Request, _: Exception) -> Response:
        """Say that the fault is the router's; the server logs what it was."""
        return _answer(internal(request.headers.get("x-request-id", "-")))


def _json(document: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def _answer(problem: Problem, *, allow: str | None = None) -> Response:
    response = Response(body(problem), problem.status)
    response.raw_headers.extend(headers(problem))
    if allow is not None:
        response.headers["allow"] = allow
    return response
