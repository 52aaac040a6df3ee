"""A real nginx and a real HAProxy, each before the router and behind it at the same time."""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

FRONT_HEADER: Final = "x-front-request"
"""Names each request that a proxy passes on; both write it themselves."""

_NGINX = """\
daemon off; worker_processes 1; user root; pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_header_timeout {wait_s}s; client_body_timeout {wait_s}s; keepalive_timeout 1s;
  client_max_body_size 4m; large_client_header_buffers 8 64k;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_next_upstream off;
  proxy_buffering off; proxy_request_buffering off;
  upstream router {{ server 127.0.0.1:{router}; keepalive 4; keepalive_timeout 1s; }}
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{front} backlog=4096;
    location /admin {{ return 403; }}
    location / {{ proxy_pass http://router; proxy_set_header X-Front-Request $request_id; }}
  }}
  server {{
    listen 127.0.0.1:{back} backlog=4096;
    location / {{ proxy_pass http://engine; }}
  }}
}}
"""
_HAPROXY = """\
global
  maxconn 4000
defaults
  mode http
  option disable-h2-upgrade
  http-reuse always
  # A connection that was kept may end just as it is taken again.
  retries 2
  retry-on conn-failure empty-response
  timeout connect 5s
  timeout server 20s
  timeout client {wait_s}s
  timeout http-request {wait_s}s
  timeout http-keep-alive 1s
frontend front
  bind fd@{front_fd}
  http-request deny if {{ path_beg /admin }}
  http-request set-header X-Front-Request %[uuid()]
  default_backend router
backend router
  server router 127.0.0.1:{router}
frontend back
  bind fd@{back_fd}
  default_backend engine
backend engine
  server engine 127.0.0.1:{engine}
"""


class Sockets:
    """Where one proxy listens; bound before it starts, so that no port is taken by another."""

    def __init__(self) -> None:
        self.front, self.back = socket.socket(), socket.socket()
        for each in (self.front, self.back):
            each.bind(("127.0.0.1", 0))
            each.listen(4096)

    def close(self) -> None:
        """Let go of both."""
        self.front.close()
        self.back.close()

    @property
    def ports(self) -> tuple[int, int]:
        """Before the router, and behind it."""
        return self.front.getsockname()[1], self.back.getsockname()[1]


def installed() -> list[str]:
    """Return which of the two are there."""
    return [name for name in ("nginx", "haproxy") if shutil.which(name)]


@contextmanager
def running(
    name: str, sockets: Sockets, folder: Path, *, router: int, engine: int, wait_s: int
) -> Generator[None]:
    """Run one of them until the block ends; the sockets take connections already."""
    front, back = sockets.ports
    front_fd, back_fd = sockets.front.fileno(), sockets.back.fileno()
    file = folder / f"{name}.conf"
    text = {"nginx": _NGINX, "haproxy": _HAPROXY}[name]
    file.write_text(
        text.format(
            folder=folder, router=router, engine=engine, wait_s=wait_s,
            front=front, back=back, front_fd=front_fd, back_fd=back_fd,
        )
    )  # fmt: skip
    environ: Mapping[str, str] = os.environ
    if name == "nginx":
        # How one nginx hands its sockets to the next. Source: nginx, "Upgrading executable".
        environ = {**os.environ, "NGINX": f"{front_fd};{back_fd};"}
        command = ["nginx", "-p", str(folder), "-c", str(file), "-e", str(folder / "early.log")]
    else:
        command = ["haproxy", "-db", "-q", "-f", str(file)]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 # one of two fixed commands
                command, env=environ, pass_fds=(front_fd, back_fd), stderr=subprocess.PIPE
            )
        )
        # Its workers end with it; nothing is to be kept.
        stack.callback(process.terminate)
        yield
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
