"""The commands for a running router, against one that runs."""

import asyncio
import json

import pytest

from router.__main__ import main
from tests.e2e.caller import ask, chat
from tests.e2e.running import TOKEN, pool
from tests.fakes.scripted import scripted_engine, streaming
from tests.router.admin.asking import administered

CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
pytestmark = pytest.mark.timeout(60)


class Commands:
    """Command lines, and the router and engine that they are about."""

    def __init__(self, run, admin, engine):
        self._run = run
        self.admin = admin
        self.engine = engine

    async def __call__(self, *words):
        return await self._run(*words)


@pytest.fixture
async def command(monkeypatch, capsys):
    """Run a command line; gives its status and what it wrote."""
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine), within_s=50) as admin,
    ):
        monkeypatch.setenv("HEADWAY_ADMIN_TOKEN", TOKEN)
        monkeypatch.setenv("HEADWAY_ADMIN_URL", admin.router.url)
        monkeypatch.setenv("COLUMNS", "200")

        async def run(*words):
            status = await asyncio.to_thread(main, words)
            shown = capsys.readouterr()
            return status, shown.out, shown.err

        yield Commands(run, admin, engine)


async def test_the_policy_is_looked_at_changed_and_put_back(command, tmp_path):
    status, out, _ = await command("policy", "get", "classes.bulk")
    assert (status, "max_wait_s = 60.0" in out) == (0, True)

    key = "classes.bulk.max_wait_s"
    status, out, _ = await command("policy", "patch", f"{key}=30", "--reason", "less patience")
    assert (status, "/classes/bulk/max_wait_s: 60.0 -> 30.0" in out) == (0, True)

    _, out, _ = await command("policy", "diff")
    assert "/classes/bulk/max_wait_s: 60.0 -> 30.0" in out

    _, whole, _ = await command("policy", "get")
    file = tmp_path / "policy.toml"
    file.write_text(whole.replace("max_wait_s = 30.0", "max_wait_s = 20.0"))
    for words in (("validate", str(file)), ("diff", str(file)), ("put", str(file))):
        status, out, _ = await command("policy", *words)
        assert (status, "30.0 -> 20.0" in out) == (0, True)

    _, out, _ = await command("policy", "history")
    assert "less patience" in out
    status, out, _ = await command("policy", "rollback", "0")
    assert (status, "version 3 is in effect" in out) == (0, True)
    _, out, _ = await command("policy", "diff")
    assert out == "no difference\n"


async def test_a_dry_run_shows_both_policies(command):
    await ask(command.admin.router.port, chat(stream=True))
    status, out, _ = await command("policy", "dry-run", "spill.to_throughput=false", "--last", "1")

    assert status == 0
    assert "proposed" in out
    assert "/spill/to_throughput: true -> false" in out


async def test_an_endpoint_is_added_weighed_drained_and_deleted(command):
    more = ("--engine", "openai", "--at", command.engine.url, "--weight", "0.1")
    assert (await command("endpoints", "add", "bulk", "fresh", *more))[0] == 0
    assert (await command("endpoints", "set", "fresh", "weight=1.0"))[0] == 0
    assert (await command("drain", "bulk-0"))[1] == "bulk-0 is sent nothing more\n"
    _, out, _ = await command("endpoints")
    assert "drained by an operator" in out
    assert (await command("undrain", "bulk-0"))[0] == 0
    assert (await command("endpoints", "probe", "fresh"))[0] == 0
    assert (await command("endpoints", "delete", "bulk-0"))[0] == 0
    assert [each["id"] for each in json.loads((await command("endpoints", "--json"))[1])] == [
        "fresh"
    ]


async def test_pools_are_listed_changed_added_and_deleted(command, tmp_path):
    file = tmp_path / "pool.toml"
    file.write_text(
        '[[pools]]\nname = "more"\nprofile = "predictable"\nmodels = ["x"]\n'
        f'endpoints = [{{ id = "x-0", engine = "openai", url = "{command.engine.url}" }}]\n'
    )
    assert (await command("pools", "add", str(file)))[0] == 0
    assert (await command("pools", "set", "more", 'models=["x","y"]'))[0] == 0
    assert "x, y" in (await command("pools"))[1]
    assert (await command("pools", "delete", "more"))[0] == 0
    assert len(json.loads((await command("pools", "--json"))[1])) == 1


async def test_how_things_stand_is_shown(command):
    await ask(command.admin.router.port, chat(stream=True), {"x-tenant-id": "acme"})

    assert "bulk-0" in (await command("status"))[1]
    assert "acme" in (await command("slo"))[1]
    assert json.loads((await command("status", "--json"))[1])["requests"] == 1
    assert json.loads((await command("slo", "--json"))[1])["objective"] == 0.99
    assert len((await command("top", "--count", "2", "--json"))[1].splitlines()) == 2
    assert "bulk-0" in (await command("top", "--count", "1"))[1]


async def test_a_decision_and_a_request_are_explained(command):
    await ask(command.admin.router.port, chat(stream=True), {"x-request-id": "slow"})

    status, out, _ = await command("explain", "--model", "m", "-H", "X-SLA-Class: bulk")
    assert (status, "class bulk (decided by: named)" in out) == (0, True)
    assert "sent to 'bulk-0'" in (await command("explain", "--request", "slow"))[1]
    assert json.loads((await command("explain", "--model", "m", "--json"))[1])["candidates"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("policy", "get", "clases"), "no part 'clases'"),
        (("policy", "patch"), "nothing to change"),
        (("policy", "patch", "x"), "cannot be read"),
        (("policy", "patch", "spil.x=1"), "known: spill"),
        (("policy", "rollback", "x"), "name one version"),
        (("policy", "rollback", "77"), "no version 77"),
        (("policy", "put", "/nowhere.toml"), "cannot be read"),
        (("policy", "put"), "name one file"),
        (("endpoints", "add", "bulk"), "say pool, id, engine and URL"),
        (("endpoints", "set", "bulk-0"), "say what to set"),
        (("endpoints", "set", "bulk-0", "weight"), "no KEY=VALUE"),
        (("endpoints", "delete"), "name one endpoint"),
        (("drain", "nobody"), "there are bulk-0"),
        (("pools", "delete"), "say which"),
        (("pools", "add", "/nowhere.toml"), "cannot be read"),
        (("explain",), "say which request"),
        (("explain", "--model", "m", "-H", "x"), "is no header"),
        (("explain", "--body", "/nowhere.json"), "cannot be read as JSON"),
        (("status", "--url", "127.0.0.1:1"), "no router answers"),
        (("slo", "--token-file", "/nowhere"), "no token"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence_with_the_mend(command, words, said):
    status, _, err = await command(*words)

    assert status == 2
    assert said in err


async def test_a_share_of_a_models_requests_is_moved_compared_and_moved_back(command):
    more = ("--engine", "openai", "--at", command.engine.url)
    await command("endpoints", "add", "bulk", "fresh", *more)
    assert (await command("variants"))[1].startswith("no model is divided")

    status, out, _ = await command("shift", "m", "fresh=10", "--reason", "a first look")
    said = ["version 1 is in effect", "m: 10 % to fresh, 90 % to the others"]
    assert (status, out.splitlines()) == (0, said)
    for _ in range(10):
        await ask(command.admin.router.port, chat(stream=True))
    _, out, _ = await command("variants", "m")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert rows["fresh"][1:4] == ["10%", "1", "0"]
    assert rows["rest"][1:4] == ["90%", "9", "0"]

    words = ("fresh=100%", "--sticky", "tenant", "--shadow", "bulk-0=5")
    _, out, _ = await command("shift", "m", *words)
    assert out.endswith("m: 100 % to fresh, 5 % copied to bulk-0\n")
    own = json.loads((await command("policy", "get", "models", "--json"))[1])["m"]
    assert own["variants"]["fresh"]["share"] == 1.0
    assert own["variants"]["fresh"]["endpoints"] == ["fresh"]
    assert own["shadow"]["endpoints"] == ["bulk-0"]
    assert own["sticky"] == "tenant"
    _, out, _ = await command("shift", "m")
    assert "shadow" in out
    assert (await command("shift", "m", "bulk=0", "--json"))[0] == 0

    assert (await command("shift", "m", "--end"))[1].endswith("m: shared out by load\n")
    assert json.loads((await command("variants", "--json"))[1]) == []
    assert (await command("variants", "m"))[1].startswith("model 'm' is not divided")


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        ((), "say which model"),
        (("m", "fresh"), "'fresh' is no PLACE=PERCENT"),
        (("m", "bulk-0=101"), "'bulk-0=101' is no PLACE=PERCENT, 0 to 100"),
        (("m", "bulk-7=5"), "there is no 'bulk-7'; endpoints: bulk-0; pools: bulk; models: m"),
        (("m", "--shadow", "m=5"), "'m' is a model; a shadow is an endpoint or a pool"),
        (("n", "bulk-0=5"), "unknown model 'n'"),
    ],
    ids=["no model", "no share", "too much", "no such place", "shadow of a model", "other model"],
)
async def test_a_shift_that_cannot_be_is_refused_in_one_sentence(command, words, mend):
    status, out, err = await command("shift", *words)

    assert (status, out) == (2, "")
    assert err.startswith("headway shift: ")
    assert mend in err


async def test_an_endpoint_that_is_added_with_a_share_takes_no_more_from_its_first_request_on(
    command,
):
    place = ("bulk", "fresh", "--engine", "openai", "--at", command.engine.url)
    status, out, _ = await command(
        "endpoints", "add", *place, "--share", "20", "--label", "usd_per_hour=2.5"
    )
    places = [
        (await ask(command.admin.router.port, chat(stream=True))).header("x-sla-endpoint")
        for _ in range(10)
    ]

    assert (status, out) == (0, "fresh serves 20 % of m in pool bulk\n")
    assert places.count("fresh") == 2
    (fresh,) = [
        each
        for each in json.loads((await command("endpoints", "--json"))[1])
        if each["id"] == "fresh"
    ]
    assert fresh["labels"] == {"usd_per_hour": "2.5"}
    status, _, err = await command("endpoints", "add", *place, "--share", "101")
    assert (status, "--share 101 is no percentage" in err) == (2, True)


async def test_the_latest_requests_are_listed_each_with_its_id(command):
    for number in range(3):
        await ask(command.admin.router.port, chat(stream=True), {"x-request-id": f"r{number}"})
    status, out, _ = await command("requests", "--limit", "2")
    slowest = json.loads((await command("requests", "--slowest", "--limit", "1", "--json"))[1])
    every = json.loads((await command("requests", "--json"))[1])["recent"]
    _, of_bulk, _ = await command("requests", "--class", "bulk", "--missed", "--endpoint", "bulk-0")

    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["id", "r2", "r1"]
    (slow,) = slowest["recent"]
    assert slow["total_s"] == max(each["total_s"] for each in every)
    assert len(of_bulk.splitlines()) == 1


async def test_a_share_that_nobody_takes_is_told_with_the_change(command):
    await command(
        "endpoints", "add", "bulk", "fresh", "--engine", "vllm", "--at", command.engine.url
    )
    await command("shift", "m", "fresh=10")
    status, _, err = await command("drain", "bulk-0")

    assert status == 0
    assert err.startswith("headway: 90 % of m are for rest, of which no endpoint takes requests")
    assert (await command("policy", "patch", "classes.bulk.max_wait_s=9"))[2] == err
    assert (await command("shift", "m", "fresh=100"))[2] == ""


async def test_a_history_is_told_in_whole_lines_however_narrow_the_screen(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    await command(
        "policy", "patch", "classes.bulk.max_wait_s=9", "--reason", "a long reason to do so"
    )
    _, out, _ = await command("policy", "history")

    first, changed, start = out.splitlines()
    assert first.startswith("*  1  ")
    assert first.endswith(": a long reason to do so")
    assert changed == "      /classes/bulk/max_wait_s: 60.0 -> 9.0"
    assert start.startswith("   0  ")
