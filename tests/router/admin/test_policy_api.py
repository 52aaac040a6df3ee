"""The policy over HTTP: versions, conflicts, flaws, the way back, and that it takes effect."""

import httpx
import pytest

from router.settings import State
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import administered

ANSWER = (
    b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
PATCH = {"classes": {"bulk": {"max_wait_s": 7.0}}}


@pytest.fixture
async def engine():
    async with scripted_engine(answering(ANSWER)) as engine:
        yield engine


@pytest.fixture
async def admin(engine):
    async with administered(pool("bulk", engine)) as admin:
        yield admin


async def test_the_policy_is_shown_whole_with_its_version(admin):
    answer = await admin.get("/policy")

    assert answer.json()["classes"]["bulk"]["max_wait_s"] == 60.0
    assert answer.headers["etag"].startswith('"0-')


async def test_a_patch_takes_effect_and_is_told_as_a_difference(admin):
    tag = (await admin.get("/policy")).headers["etag"]
    answer = await admin.send("PATCH", "/policy", PATCH, If_Match=tag)

    assert answer.json()["difference"] == [
        {"pointer": "/classes/bulk/max_wait_s", "before": 60.0, "after": 7.0}
    ]
    assert answer.headers["etag"].startswith('"1-')
    assert admin.router.router.dispatcher.policy.classes.bulk.max_wait_s == 7.0


async def test_of_two_changes_to_one_version_the_second_is_refused(admin):
    tag = (await admin.get("/policy")).headers["etag"]
    first = await admin.send("PATCH", "/policy", PATCH, If_Match=tag)
    second = await admin.send("PATCH", "/policy", PATCH, If_Match=tag)

    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json()["error"]["code"] == "version_mismatch"


async def test_a_change_for_no_version_is_refused_and_told_how(admin):
    answer = await admin.send("PATCH", "/policy", PATCH)

    assert answer.status_code == 428
    assert "If-Match" in answer.json()["error"]["message"]


async def test_every_flaw_comes_with_its_pointer_and_nothing_changes(admin):
    wrong = {"classes": {"bulk": {"max_wait_s": -1}}, "models": {"a/b": {"default_class": "x"}}}
    answer = await admin.send("PATCH", "/policy", wrong, If_Match="*")

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["error"]["errors"]] == [
        "/classes/bulk/max_wait_s",
        "/models/a~1b/default_class",
    ]
    assert (await admin.get("/policy")).headers["etag"].startswith('"0-')


async def test_a_policy_is_judged_without_being_applied(admin):
    right = await admin.send("POST", "/policy/validate", PATCH)
    wrong = await admin.send("POST", "/policy/validate", {"spil": {}})

    assert right.json()["valid"]
    assert len(right.json()["difference"]) == 1
    assert "known: spill" in wrong.json()["errors"][0]["message"]
    assert (await admin.get("/policy")).headers["etag"].startswith('"0-')


async def test_a_policy_is_replaced_and_rolled_back_with_its_history(admin):
    who = {"X_Change_By": "ann", "X_Change_Reason": "möre room"}
    encoded = {name: value.encode() for name, value in who.items()}
    put = await admin.client.put(
        "/admin/v1/policy",
        json=PATCH,
        headers={"if-match": "*", **{k.replace("_", "-"): v for k, v in encoded.items()}},
    )
    back = await admin.send("POST", "/policy/rollback/0")
    history = (await admin.get("/policy/history")).json()

    assert put.status_code == back.status_code == 200
    assert back.json()["difference"][0]["after"] == 60.0
    assert history["present"] == 2
    assert [each["action"] for each in history["versions"]] == ["rollback to 0", "put", "start"]
    assert (history["versions"][1]["who"], history["versions"][1]["reason"]) == ("ann", "möre room")
    assert (await admin.get("/policy/history/1")).json()["classes"]["bulk"]["max_wait_s"] == 7.0
    assert (await admin.send("POST", "/policy/rollback/9")).status_code == 404


async def test_a_change_outlives_the_router_and_wins_over_the_file(engine, tmp_path):
    async with administered(pool("bulk", engine), state=State(tmp_path)) as admin:
        await admin.send("PATCH", "/policy", PATCH, If_Match="*")
    async with administered(pool("bulk", engine), state=State(tmp_path)) as admin:
        assert (await admin.get("/policy")).json()["classes"]["bulk"]["max_wait_s"] == 7.0
        assert admin.router.router.dispatcher.policy.classes.bulk.max_wait_s == 7.0


async def test_without_the_token_nothing_is_told_or_done(admin):
    async with httpx.AsyncClient(base_url=admin.router.url, trust_env=False) as stranger:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eA=="}):
            for operation in admin.router.router.administration.operations:
                path = operation.path.replace("{version:int}", "0")
                answer = await stranger.request(
                    operation.method, f"/admin/v1{path}", headers=headers, json={}
                )
                assert answer.status_code == 401, (operation.method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert admin.router.router.administration.policy.version == 0
    assert admin.router.router.administration.fleet.version == 0


@pytest.mark.timeout(100)
async def test_recorded_requests_are_replayed_under_both_policies(engine):
    # Its workers are given next to nothing where the machine has other things to do.
    async with administered(pool("bulk", engine), within_s=90) as admin:
        await _replay(admin)


async def _replay(admin):
    for _ in range(20):
        await ask(admin.router.port, chat(stream=False))
    answer = await admin.client.post(
        "/admin/v1/policy/dry-run", json={"patch": PATCH, "last": 10}, timeout=80
    )

    found = answer.json()
    assert answer.status_code == 200, found
    assert found["requests"] == 10
    assert found["outcomes"]["present"]["all"] == found["outcomes"]["proposed"]["all"]
    assert found["difference"][0]["after"] == 7.0
    assert "timing" in found["notes"][0]


async def test_a_dry_run_of_nothing_says_what_is_missing(admin):
    answer = await admin.send("POST", "/policy/dry-run", {"patch": PATCH})

    assert answer.status_code == 409
    assert "no request was recorded" in answer.json()["error"]["message"]
