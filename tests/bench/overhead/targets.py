"""What is measured: a table of proxies, each a command that listens on a port before one engine."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.bench.overhead.tools import BUILD, ROOT, CannotCompile, compiler
from tests.fakes.redis_server import executable

DIRECT = "direct"
HEADWAY = "headway"
FROM_SOURCE = "headway-source"
SHARING = "headway-redis"
COMPILED = BUILD / "compiled"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one proxy runs."""

    port: int
    engine_port: int
    directory: Path
    """Its own, for its configuration and what it writes."""


@dataclass(frozen=True, slots=True)
class Target:
    """One way from the load generator to the engine."""

    name: str
    about: str
    command: Callable[[Place], list[str]] | None
    """Writes the configuration and returns the command; None: no proxy at all."""
    missing: Callable[[], str | None]
    """Why it cannot run here; None where it can."""
    version: Callable[[], str]
    by_default: bool = True
    """Whether it is measured unless asked otherwise."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
{user}
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_body_buffer_size 1m; client_max_body_size 16m;
    keepalive_requests 1000000000;
    upstream engine {{
        server 127.0.0.1:{place.engine_port};
        keepalive 512; keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{place.port} backlog=4096;
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_read_timeout 600s;
        }}
    }}
}}
"""


def nginx(place: Place) -> list[str]:
    """Write the configuration: one worker, kept connections, nothing buffered on disk."""
    user = "user root;" if os.geteuid() == 0 else ""
    path = place.directory / "nginx.conf"
    path.write_text(NGINX.format(place=place, user=user))
    return ["nginx", "-p", str(place.directory), "-c", str(path), "-e", "stderr"]


def nginx_version() -> str:
    """Return what `nginx -v` says of itself, as in 1.22.1."""
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr  # noqa: S607 - whichever is on PATH
    number = re.search(r"[\d.]+", said)
    return number[0] if number else "unknown"


def bare(place: Place) -> list[str]:
    """Return the command of the relay of our own kind that decides nothing."""
    ports = ["--port", str(place.port), "--engine-port", str(place.engine_port)]
    return [sys.executable, "-m", "tests.bench.overhead.bare_relay", *ports]


def bare_tuned(place: Place) -> list[str]:
    """Return the command of the same relay with an allocator that keeps large buffers."""
    return [*bare(place), "--keep-memory"]


CONFIG = """\
[server]
host = "127.0.0.1"
port = {place.port}
workers = 1

[[pools]]
name = "fast"
profile = "predictable"
models = ["mock"]
endpoints = [{{ id = "fast-0", engine = "vllm", url = "{url}", max_in_flight = 4096 }}]

[[pools]]
name = "bulk"
profile = "throughput"
models = ["mock"]
endpoints = [{{ id = "bulk-0", engine = "vllm", url = "{url}", max_in_flight = 4096 }}]
"""


def from_source(place: Place) -> list[str]:
    """Write a configuration of two pools, both before the one engine; return the command."""
    path = place.directory / "headway.toml"
    path.write_text(CONFIG.format(place=place, url=f"http://127.0.0.1:{place.engine_port}"))
    return [sys.executable, "-m", "router", "serve", str(path)]


def headway(place: Place) -> list[str]:
    """Write the configuration and compile the router; return the command."""
    return [*compiled_router(), *from_source(place)]


def sharing(place: Place) -> list[str]:
    """Write the same configuration with a Redis; return the command, which starts one as well."""
    _, _, *rest = from_source(place)
    port = free_port()
    with (place.directory / "headway.toml").open("a") as config:
        config.write(f'\n[redis]\nurl = "redis://127.0.0.1:{port}/0"\n')
    launcher = [sys.executable, "-m", "tests.bench.overhead.with_redis", str(port)]
    return [*compiled_router(), *launcher, str(place.directory), *rest]


def compiled_router() -> list[str]:
    """Compile the router, unless that very source is compiled already; return how to run it."""
    made = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(ROOT / "deploy" / "compile.py"), str(COMPILED)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CannotCompile(made.stderr.strip())
    # A safe path: the modules of the compiled tree, not those of the directory that this runs in.
    return ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={COMPILED}:{ROOT}"]


def _never_missing() -> None:
    return None


def _nginx_missing() -> str | None:
    return None if shutil.which("nginx") else "nginx is not on PATH"


def _redis_missing() -> str | None:
    try:
        executable()
    except FileNotFoundError as error:
        return str(error)
    return None


def compiler_missing() -> str | None:
    if find_spec("mypyc") is None:
        return "mypy is not installed; make setup installs it"
    return None if compiler() else "there is no C compiler on PATH (cc, gcc or clang)"


def _uvicorn_version() -> str:
    return f"uvicorn {version('uvicorn')}"


TARGETS = {
    target.name: target
    for target in (
        Target(DIRECT, "no proxy", None, _never_missing, lambda: ""),
        Target("nginx", "one worker, no buffering", nginx, _nginx_missing, nginx_version),
        Target("bare", "a relay that decides nothing", bare, _never_missing, _uvicorn_version),
        Target(
            "bare-tuned",
            "the same relay, keeping the memory of large bodies",
            bare_tuned,
            _never_missing,
            _uvicorn_version,
            by_default=False,
        ),
        Target(
            HEADWAY,
            "the router, its hot path compiled, as make wheel has it",
            headway,
            compiler_missing,
            _uvicorn_version,
        ),
        Target(
            SHARING,
            "the router that shares over a Redis, whose cost is counted with it",
            sharing,
            lambda: _redis_missing() or compiler_missing(),
            _uvicorn_version,
        ),
        Target(
            FROM_SOURCE,
            "the router with nothing compiled",
            from_source,
            _never_missing,
            _uvicorn_version,
        ),
    )
}
