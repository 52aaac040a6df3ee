"""`headway serve`: run the router."""

import argparse
import contextlib
import ctypes
import gc
import logging
import resource
import socket
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic
from time import time as wall_clock  # noqa: TID251 # for what people and other systems read
from typing import Final

from engines.registry import ENGINES
from router import proxy
from router.access_log import AccessLog
from router.app import Router, server
from router.cli.workers import Workers, listeners
from router.config import Config, load, read_secrets
from router.credentials import Secrets
from router.document import ConfigError
from router.lines import STANDARD_ERROR, STANDARD_OUTPUT, LineWriter
from router.log import start_logging

USUAL_FILES = (Path("headway.toml"), Path("/etc/headway/headway.toml"))
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
SWITCH_S: Final = 0.0005
"""How soon a thread that computes, such as one that encodes spans, lets the event loop go on; the
interpreter's own 5 ms are more than a token takes."""
EXAMPLE = """\
example:
  headway serve headway.toml
  curl http://127.0.0.1:8080/v1/models

Without a file, ./headway.toml is read, else /etc/headway/headway.toml. SIGTERM and Ctrl-C let
running answers end, for as long as server.limits.drain_s says.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", nargs="?", type=Path, help="the configuration, TOML")
    parser.add_argument("--port", type=int, help="listen here instead of the file's server.port")


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit status."""
    path = args.file or next((path for path in USUAL_FILES if path.exists()), USUAL_FILES[0])
    try:
        config = load(path)
        secrets = read_secrets(config)
    except ConfigError as error:
        sys.stderr.writelines(f"{sentence}\n" for sentence in error.sentences())
        return 2
    if args.port is not None:
        config = replace(config, server=replace(config.server, port=args.port))
    settings = config.server
    if settings.workers == 1:
        return _serve(config, secrets, None)
    made = listeners(settings.host, settings.port, settings.workers)
    return Workers(lambda listener: _serve(config, secrets, listener), made).run()


def _serve(config: Config, secrets: Secrets, listener: socket.socket | None) -> int:
    """Serve as one process, on `listener` where it is one of several."""
    settings = config.server
    states = LineWriter(STANDARD_ERROR)
    start_logging(states, settings.log_style, settings.log_level)
    requests = _request_lines(settings.access_log)
    logs = {"states": states} if requests is None else {"states": states, "requests": requests}
    _allow_many_connections()
    router = Router(
        config,
        secrets,
        engines=ENGINES,
        clock=monotonic,
        rng=Random(),
        access_log=None if requests is None else AccessLog(requests, wall_clock),
        logs=logs,
    )
    if config.admin is not None:
        # Only here: it brings the simulation with it, 10 MB and half a second at the start.
        from router.admin.administration import Administration  # noqa: PLC0415 # see above

        router.administration = Administration(router, config.admin, secrets, wall_clock=wall_clock)
    started = server(router, started_at_s=int(wall_clock()))
    _say_how_it_runs()
    _collect_less_often()
    sys.setswitchinterval(SWITCH_S)
    _keep_large_buffers()
    try:
        started.run(None if listener is None else [listener])
    finally:
        # It exits where it cannot listen: the line that says so must come out.
        for log in logs.values():
            log.close()
    return 0 if started.started else 1


def _request_lines(target: str) -> LineWriter | None:
    if target == "off":
        return None
    return LineWriter(STANDARD_OUTPUT if target == "-" else Path(target))


def _say_how_it_runs() -> None:
    """Log whether the hot path is compiled: from its sources each request costs twice as much."""
    is_compiled = not proxy.__file__.endswith(".py")
    logging.getLogger("headway").info(
        "hot path", extra={"compiled": is_compiled, "file": proxy.__file__}
    )


def _collect_less_often() -> None:
    """Leave what was built at the start out of garbage collection, and collect in larger lots.

    A request leaves no cycle behind, so there is next to nothing to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _keep_large_buffers() -> None:
    """Have glibc keep the memory of large bodies instead of fetching it anew for each.

    Every page given back is faulted in again, zeroed, with the next long prompt. Other C
    libraries are left alone. Source: mallopt(3).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def _allow_many_connections() -> None:
    """Raise the limit on open files as far as the system lets us: a stream takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
