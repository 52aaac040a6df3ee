"""The interface is what its OpenAPI document says, whatever it is asked; and shut without a token."""

from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from engines.launch.child import child, free_port

TOKEN = "let-me-in"  # noqa: S105 # opens nothing but a test's router
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = 8
"""Of each operation, as it should be and as it should not: hundreds of requests together."""
LEFT_OUT = {"positive_data_acceptance"}
"""What a document means is judged beyond its form: names that there are not, shares above 1."""
CONFIG = """
[server]
port = {port}
access_log = "off"
log_level = "error"
[admin]
token_file = "token"
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
endpoints = [{{ engine = "openai", url = "http://127.0.0.1:{engine}" }}]
"""
pytestmark = pytest.mark.timeout(170)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Run a router of its own: whatever is done to it, it answers."""
    folder, port = tmp_path_factory.mktemp("admin"), free_port()
    (folder / "token").write_text(TOKEN)
    path = folder / "headway.toml"
    path.write_text(CONFIG.format(port=port, engine=free_port()))
    with child("router", ["serve", str(path)], folder / "log") as router:
        router.wait_until_ready(f"http://127.0.0.1:{port}/healthz", 60.0)
        yield f"http://127.0.0.1:{port}"
        router.must_run()


def document(url: str) -> dict[str, Any]:
    answer = httpx.get(f"{url}/admin/v1/openapi.json", headers=AUTHORIZED, trust_env=False)
    found: dict[str, Any] = answer.json()
    return found


def operations(url: str) -> list[Any]:
    """Return all but the endless stream of events; who has no token is another test."""
    schema = schemathesis.openapi.from_dict({**document(url), "security": []})
    found: list[Any] = list(schema.get_all_operations())
    return [each.ok() for each in found if not each.ok().path.endswith("/events")]


@pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.value)
def test_nothing_that_schemathesis_asks_is_answered_otherwise_than_documented(url, mode):
    checks = [
        check
        for name in CHECKS.get_all_names()
        if name not in LEFT_OUT
        for check in CHECKS.get_by_names([name])
    ]
    asked = 0
    for operation in operations(url):
        cases = operation.as_strategy(generation_mode=mode)

        @given(case=cases)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=[*HealthCheck],
        )
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(base_url=url, headers=AUTHORIZED, checks=checks)

        with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
            ask()
    assert asked > 100


def test_every_operation_without_or_with_a_wrong_token_is_answered_401_and_does_nothing(url):
    with httpx.Client(base_url=url, trust_env=False) as client:
        before = client.get("/admin/v1/policy", headers=AUTHORIZED).headers["etag"]
        for path, methods in document(url)["paths"].items():
            for method in methods:
                for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
                    filled = path.format(name="p", id="p-0", version=0)
                    answer = client.request(
                        method, filled, headers={**headers, "if-match": "*"}, json={}
                    )

                    assert answer.status_code == 401, (method, path, headers)
                    assert answer.json()["error"]["code"] == "invalid_admin_token"
                    assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/admin/v1/policy", headers=AUTHORIZED).headers["etag"] == before
        pools = client.get("/admin/v1/pools", headers=AUTHORIZED).json()
        assert [each["name"] for each in pools] == ["p"]
