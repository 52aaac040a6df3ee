"""The real engine by itself: that it starts as its profile says, and ends when it is told."""

import json
import urllib.request

import pytest

from engines.launch.child import ChildFailed, free_port
from engines.launch.llamacpp import MODEL, llamacpp
from engines.launch.profiles import CONTEXT_TOKENS, Profile


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def test_each_slot_has_the_context_that_the_profile_promises(engine_url):
    slots = read(f"{engine_url}/slots")

    assert [slot["n_ctx"] for slot in slots] == [CONTEXT_TOKENS] * 2


def test_the_engine_serves_the_model_by_its_public_name(engine_url):
    assert [card["id"] for card in read(f"{engine_url}/v1/models")["data"]] == [MODEL]


def test_the_engine_ends_in_order_when_the_block_does(tmp_path):
    with llamacpp(
        port=free_port(), profile=Profile.THROUGHPUT, log_path=tmp_path / "log"
    ) as engine:
        assert len(read(f"{engine.url}/slots")) == 8

    assert engine.process.exit_code == 0
    assert b"main loop exited" in (tmp_path / "log").read_bytes()


def test_a_port_that_is_taken_is_not_mistaken_for_the_engines_own(engine_url, tmp_path):
    port = int(engine_url.rsplit(":", 1)[1])
    with (
        pytest.raises(ChildFailed, match=rf"port {port} is taken"),
        llamacpp(port=port, profile=Profile.PREDICTABLE, log_path=tmp_path / "log"),
    ):
        pytest.fail("the other engine was taken for this one")
