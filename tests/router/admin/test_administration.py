"""Administration as a whole: on a port of its own, and what it writes down of who did what."""

import json
import re

import httpx

from router.settings import Admin
from tests.e2e.running import TOKEN, pool
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import administered

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
PATCH = {"classes": {"bulk": {"max_wait_s": 7.0}}}


async def test_with_a_port_of_its_own_administration_answers_there_and_nowhere_else():
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        administered(pool("p", engine), admin=Admin(port=0)) as admin,
        httpx.AsyncClient(headers=AUTHORIZED, trust_env=False) as client,
    ):
        administration = admin.router.router.administration
        assert administration is not None
        url = f"http://127.0.0.1:{await administration.port()}"
        there = await client.get(f"{url}/admin/v1/policy")
        page = await client.get(f"{url}/dashboard/")
        nobody = await client.get(f"{url}/admin/v1/policy", headers={"authorization": "Bearer x"})
        here = await admin.get("/policy")
        inference = await client.post(f"{url}/v1/chat/completions", json={"model": "m"})

    assert (there.status_code, there.json()["classes"]["bulk"]["max_wait_s"]) == (200, 60.0)
    assert page.status_code == 200
    assert nobody.status_code == 401
    assert here.status_code == 404
    assert inference.status_code == 404


async def test_who_changed_what_when_and_why_is_written_down_and_so_is_who_was_refused(tmp_path):
    file = tmp_path / "audit.jsonl"
    headers = {"If-Match": "*", "X-Change-By": "ann", "X-Change-Reason": "less patience"}
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        administered(pool("p", engine), admin=Admin(audit_file=file)) as admin,
    ):
        await admin.client.patch("/admin/v1/policy", json=PATCH, headers=headers)
        stranger = {"authorization": "Bearer secret-guess"}
        await admin.client.post("/admin/v1/pools/p/endpoints/p-0/drain", headers=stranger)
    text = file.read_text()
    change, asked, refused = map(json.loads, text.splitlines())

    assert change | {"time": ""} == {
        "time": "",
        "event": "changed",
        "document": "policy",
        "version": 1,
        "who": "ann",
        "origin": "127.0.0.1",
        "reason": "less patience",
        "action": "patch",
        "difference": [{"pointer": "/classes/bulk/max_wait_s", "before": 60.0, "after": 7.0}],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*", change["time"])
    assert (asked["event"], asked["status"], asked["path"]) == ("administration", 200, "/policy")
    assert (refused["status"], refused["path"]) == (401, "/pools/p/endpoints/p-0/drain")
    assert TOKEN not in text
    assert "secret-guess" not in text
