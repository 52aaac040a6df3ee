"""`headway keys`, against a router that runs."""

import asyncio
import json

import pytest

from router.__main__ import main
from tests.e2e.running import TOKEN, pool
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import administered

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def command(monkeypatch, capsys):
    """Run a command line; gives its status and what it wrote."""
    async with (
        scripted_engine(answering(b"{}")) as engine,
        administered(pool("p", engine), within_s=50) as admin,
    ):
        monkeypatch.setenv("HEADWAY_ADMIN_TOKEN", TOKEN)
        monkeypatch.setenv("HEADWAY_ADMIN_URL", admin.router.url)
        monkeypatch.setenv("COLUMNS", "200")

        async def run(*words):
            status = await asyncio.to_thread(main, ("keys", *words))
            shown = capsys.readouterr()
            return status, shown.out, shown.err

        yield run


async def test_a_key_lives_from_being_made_to_being_revoked(command):
    words = ["--tenant", "acme", "--models", "llama-*", "--highest-class", "standard"]
    words += ["--requests-per-minute", "600", "--expires-in", "90d", "--label", "team=search"]
    status, out, err = await command("create", *words)
    key = out.strip()
    id_ = key.split("_")[1]
    assert (status, "only time" in err) == (0, True)

    status, out, _ = await command("list")
    assert status == 0
    assert all(word in out for word in (id_, "acme", "active", "standard", "llama-*", "600"))
    assert key not in out

    status, out, _ = await command("set", id_, "requests_per_minute=1200", "labels.rack=7")
    assert (status, out) == (0, f"{id_} is changed\n")

    status, out, _ = await command("rotate", id_, "--overlap", "1h")
    assert out.startswith(f"hw_{id_}_")
    assert out.strip() != key

    status, out, _ = await command("show", id_, "--json")
    shown = json.loads(out)
    assert shown["requests_per_minute"] == 1200
    assert shown["labels"] == {"team": "search", "rack": "7"}

    status, out, _ = await command("revoke", id_)
    assert out == f"{id_} is revoked\n"
    status, out, _ = await command("show", id_)
    assert "revoked" in out


async def test_scripts_read_json(command):
    _, out, _ = await command("create", "--tenant", "acme", "--json")
    made = json.loads(out)
    _, out, _ = await command("list", "--json")
    assert [each["id"] for each in json.loads(out)] == [made["id"]]
    _, out, _ = await command("revoke", made["id"], "--json")
    assert json.loads(out)["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create",), "say whose the key is"),
        (("create", "--tenant", "a", "--expires-in", "soon"), "'soon' is no time"),
        (("create", "--tenant", "a b"), "tenant"),
        (("show",), "name one key by its id"),
        (("show", "nobody"), "no key 'nobody'"),
        (("set", "nobody"), "say what to set"),
        (("rotate", "a", "--overlap", "1w"), "'1w' is no time"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_said_in_a_sentence(command, words, sentence):
    status, out, err = await command(*words)

    assert (status, out) == (2, "")
    assert sentence in err
