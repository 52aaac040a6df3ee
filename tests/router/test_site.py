"""The routes that are not inference, over a socket."""

import asyncio
import logging
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry, Gauge
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.routing import Route as Path

from engines.engine import Route
from router.metrics import Metrics
from router.site import Model, PoolState, Readiness, site

PLAIN = Model("llama-3.1-8b", ("fast", "bulk"), 8192)
SLASHED = Model("meta-llama/Llama-3", ("bulk",), None)


class FixedFleet:
    """A fleet that stands still until the test changes it."""

    def __init__(self) -> None:
        self.cards = [PLAIN, SLASHED]
        self.state = Readiness(draining=False, pools={"fast": PoolState(2, 1)})

    def models(self) -> list[Model]:
        return self.cards

    def readiness(self) -> Readiness:
        return self.state


def broken(_):
    raise RuntimeError("a bug")


@asynccontextmanager
async def serving(fleet: FixedFleet):
    """Serve the site on a free port; gives a client that speaks to it."""
    beside = CollectorRegistry()
    Gauge("process_things", "Things.", registry=beside).set(3)
    more = [
        Path("/broken", broken),
        Path("/v1/files", lambda _: PlainTextResponse("made"), methods=["POST"]),
        Mount("/admin", routes=[Path("/policy", lambda _: PlainTextResponse("{}"))]),
    ]
    app = site(fleet, Metrics(), started_at_s=1_790_000_000, beside=beside, more=more)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.TaskGroup() as group:
            group.create_task(server._serve([listener]))
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                yield client
            server.should_exit = True


@pytest.fixture
def fleet():
    return FixedFleet()


@pytest.fixture
async def client(fleet):
    async with serving(fleet) as client:
        yield client


async def test_models_are_listed_as_openai_lists_them_with_their_limits_and_pools(client):
    answer = await client.get("/v1/models")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "object": "list",
        "data": [
            {
                "id": "llama-3.1-8b",
                "object": "model",
                "created": 1_790_000_000,
                "owned_by": "headway",
                "max_model_len": 8192,
                "pools": ["fast", "bulk"],
            },
            {
                "id": "meta-llama/Llama-3",
                "object": "model",
                "created": 1_790_000_000,
                "owned_by": "headway",
                "max_model_len": None,
                "pools": ["bulk"],
            },
        ],
    }


@pytest.mark.parametrize("path", ["meta-llama/Llama-3", "meta-llama%2FLlama-3"])
async def test_a_model_whose_name_holds_a_slash_is_found(client, path):
    answer = await client.get(f"/v1/models/{path}")

    assert answer.status_code == 200
    assert answer.json()["id"] == "meta-llama/Llama-3"


async def test_a_model_that_nobody_serves_is_told_with_those_that_somebody_does(client):
    answer = await client.get("/v1/models/llama-4")
    error = answer.json()["error"]

    assert answer.status_code == 404
    assert error["code"] == "model_not_found"
    assert "'llama-4'" in error["message"]
    assert "llama-3.1-8b" in error["message"]


async def test_the_process_is_alive_whatever_the_engines_are(client, fleet):
    fleet.state = Readiness(draining=True, pools={})
    answer = await client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Readiness(draining=False, pools={"fast": PoolState(2, 0), "bulk": PoolState(1, 1)}), 200),
        (Readiness(draining=False, pools={"fast": PoolState(2, 0)}), 503),
        (Readiness(draining=False, pools={}), 503),
        (Readiness(draining=True, pools={"fast": PoolState(2, 2)}), 503),
    ],
    ids=["one pool serves", "none serves", "no pool", "draining"],
)
async def test_traffic_may_come_while_a_pool_serves_and_nobody_leaves(client, fleet, state, status):
    fleet.state = state
    answer = await client.get("/readyz")

    assert answer.status_code == status
    assert answer.json() == {
        "ready": status == 200,
        "draining": state.draining,
        "pools": {
            name: {"endpoints": pool.endpoints, "serving": pool.serving}
            for name, pool in state.pools.items()
        },
    }


async def test_metrics_are_there_in_both_formats_with_what_stands_beside(client):
    plain = await client.get("/metrics")
    openmetrics = await client.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )

    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "process_things 3.0" in plain.text
    assert "headway_retries_total" in plain.text
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


async def test_the_root_says_what_this_is_and_where_to_look(client):
    answer = (await client.get("/")).json()

    assert answer["name"] == "headway"
    assert answer["openai_base_url"] == f"{client.base_url}/v1"
    for path in (answer["models"], answer["alive"], answer["ready"], answer["metrics"]):
        assert (await client.get(path)).status_code == 200
    assert answer["inference"] == sorted(Route)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "POST /v1/chat/completions"),
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/v1/chat/completions/", "POST /v1/chat/completions"),
        ("/v1/v1/embeddings", "POST /v1/embeddings"),
        ("/models", "GET /v1/models"),
        ("/health", "GET /healthz"),
    ],
)
async def test_a_path_that_is_nearly_right_is_told_which_one_is(client, path, meant):
    answer = await client.post(path, json={})
    error = answer.json()["error"]

    assert answer.status_code == 404
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert repr(path) in error["message"]
    assert meant in error["message"]


async def test_a_path_like_none_is_told_them_all(client):
    message = (await client.get("/zzzzzzzzzzzzzzzzzz")).json()["error"]["message"]

    assert "GET /v1/models" in message
    assert "POST /v1/chat/completions" in message
    assert "POST /v1/files" in message


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/llama", "GET"),
        ("GET", "/v1/files", "POST"),
        *(("GET", str(route), "POST") for route in Route),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(client, method, path, allowed):
    answer = await client.request(method, path)
    error = answer.json()["error"]

    assert answer.status_code == 405
    assert allowed in answer.headers["allow"].split(", ")
    assert error["code"] == "method_not_allowed"
    assert error["message"].endswith(f"it takes {allowed}")


async def test_parts_that_are_mounted_are_reached_and_refuse_in_the_same_shape(client):
    found = await client.get("/admin/policy")
    missed = await client.get("/admin/polcy")
    refused = await client.delete("/admin/policy")

    assert found.text == "{}"
    assert (missed.status_code, missed.json()["error"]["code"]) == (404, "unknown_url")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_who_only_wants_the_head_gets_it(client):
    answer = await client.head("/healthz")

    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_fault_of_the_routers_own_has_the_same_shape_and_is_logged(client, caplog):
    caplog.set_level(logging.ERROR)
    answer = await client.get("/broken", headers={"x-request-id": "r-1"})

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "'r-1'" in answer.json()["error"]["message"]
    assert "a bug" in caplog.text
