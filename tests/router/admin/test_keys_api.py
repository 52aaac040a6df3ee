"""Keys by administration: made, looked at, changed, rotated, revoked; no secret is shown twice."""

import pytest

from router.access.store import Journal
from router.settings import Access, State
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import administered

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
SAID = {
    "tenant": "acme",
    "models": ["llama-*"],
    "classes": ["standard", "bulk"],
    "highest_class": "standard",
    "requests_per_minute": 600,
    "tokens_per_minute": 100_000,
    "tokens_per_day": 5_000_000,
    "concurrent": 20,
    "weight": 2.0,
    "expires_at_s": 4_000_000_000.0,
    "labels": {"team": "search"},
}


@pytest.fixture
async def admin():
    async with scripted_engine(answering(ANSWER)) as engine, administered(pool("p", engine)) as one:
        yield one


async def test_a_key_is_what_was_said_of_it(admin):
    made = await admin.send("POST", "/keys", SAID)
    shown = (await admin.get(f"/keys/{made.json()['id']}")).json()

    assert made.status_code == 201
    assert made.json()["key"].startswith(f"hw_{shown['id']}_")
    assert {name: shown[name] for name in SAID} == SAID
    assert shown["state"] == "active"
    assert shown["expires_at"].startswith("2096-")


async def test_what_is_not_said_is_not_limited(admin):
    made = (await admin.send("POST", "/keys", {"tenant": "acme"})).json()

    assert made["models"] == ["*"]
    assert made["highest_class"] == "interactive"
    assert made["requests_per_minute"] is None
    assert made["expires_at"] is None


async def test_no_secret_and_no_digest_is_shown_after_a_key_was_made(admin):
    made = (await admin.send("POST", "/keys", SAID)).json()
    text = (await admin.get("/keys")).text + (await admin.get(f"/keys/{made['id']}")).text

    assert made["key"][16:] not in text
    assert "digest" not in text
    assert "proofs" not in text


async def test_keys_are_listed_the_oldest_first(admin):
    ids = [(await admin.send("POST", "/keys", {"tenant": each})).json()["id"] for each in "abc"]
    listed = (await admin.get("/keys")).json()

    assert {each["id"] for each in listed} == set(ids)
    assert listed == sorted(listed, key=lambda each: (each["created_at"], each["id"]))


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({}, "/tenant"),
        ({"tenant": "a b"}, "/tenant"),
        ({"tenant": "a", "models": []}, "/models"),
        ({"tenant": "a", "classes": ["fast"]}, "/classes/0"),
        ({"tenant": "a", "requests_per_minute": 0}, "/requests_per_minute"),
        ({"tenant": "a", "weight": 0}, "/weight"),
        ({"tenant": "a", "expires": 1}, ""),
    ],
    ids=str,
)
async def test_what_makes_no_key_is_told_by_its_place(admin, said, pointer):
    answer = await admin.send("POST", "/keys", said)

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["error"]["errors"]] == [pointer]
    assert (await admin.get("/keys")).json() == []


async def test_a_change_is_a_merge_patch(admin):
    made = (await admin.send("POST", "/keys", SAID)).json()
    patch = {"requests_per_minute": None, "concurrent": 5, "labels": {"rack": "7"}}
    changed = (await admin.send("PATCH", f"/keys/{made['id']}", patch)).json()

    assert changed["requests_per_minute"] is None
    assert changed["concurrent"] == 5
    assert changed["labels"] == {"team": "search", "rack": "7"}
    assert changed["tenant"] == "acme"


async def test_a_revoked_key_stays_revoked(admin):
    made = (await admin.send("POST", "/keys", SAID)).json()
    path = f"/keys/{made['id']}"
    first = (await admin.send("DELETE", path)).json()
    second = (await admin.send("DELETE", path)).json()
    refused = [await admin.send("PATCH", path, {}), await admin.send("POST", f"{path}/rotate")]

    assert first["state"] == second["state"] == "revoked"
    assert first["revoked_at"] == second["revoked_at"]
    assert [each.status_code for each in refused] == [409, 409]
    assert "for good" in refused[0].json()["error"]["message"]


async def test_a_key_that_is_not_there_is_a_404(admin):
    answers = [
        await admin.get("/keys/nobody"),
        await admin.send("DELETE", "/keys/nobody"),
        await admin.send("PATCH", "/keys/nobody", {}),
        await admin.send("POST", "/keys/nobody/rotate"),
    ]

    assert [each.status_code for each in answers] == [404] * 4


@pytest.mark.parametrize("overlap", ["soon", "-1", "nan", "604801"])
async def test_an_overlap_that_is_no_time_is_refused(admin, overlap):
    made = (await admin.send("POST", "/keys", SAID)).json()
    path = f"/admin/v1/keys/{made['id']}/rotate"
    answer = await admin.client.post(path, params={"overlap_s": overlap})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "overlap_s"


async def test_keys_outlive_the_router_where_there_is_a_state(tmp_path):
    state, access = State(tmp_path / "state"), Access()
    async with scripted_engine(answering(ANSWER)) as engine:
        async with administered(pool("p", engine), state=state, access=access) as first:
            made = (await first.send("POST", "/keys", {"tenant": "acme"})).json()
        async with administered(pool("p", engine), state=state, access=access) as second:
            shown = {"authorization": f"Bearer {made['key']}"}
            answer = await ask(second.router.port, chat(), shown)

    assert answer.status == 200


async def test_what_cannot_be_kept_is_not_made(tmp_path):
    (tmp_path / "state").write_text("no folder")
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        administered(pool("p", engine), within_s=10) as admin,
    ):
        office = admin.router.router.access.office
        office._store = Journal(tmp_path / "state" / "keys.jsonl")
        answer = await admin.send("POST", "/keys", {"tenant": "acme"})

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_stored")
        assert (await admin.get("/keys")).json() == []
