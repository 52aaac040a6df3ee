"""A master, a copy of it and a sentinel that makes the copy master when the master is gone."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.fakes.redis_server import RedisServer, redis_server

CONFIGURATION = """\
sentinel monitor main 127.0.0.1 {port} 1
sentinel down-after-milliseconds main 300
sentinel failover-timeout main 2000
"""
PATIENCE_S = 10.0


@contextmanager
def watched_master(folder: Path) -> Iterator[tuple[RedisServer, str]]:
    """Yield the master and the URL of all."""
    with ExitStack() as stack:
        folders = [folder / name for name in ("master", "copy", "sentinel")]
        for each in folders:
            each.mkdir()
        hasty = ("--repl-diskless-sync-delay", "0")
        master = stack.enter_context(redis_server(folders[0], hasty))
        copying = ("--replicaof", "127.0.0.1", str(master.port))
        copy = stack.enter_context(redis_server(folders[1], copying))
        _wait_for(copy, b"master_link_status:up", "INFO", "replication")
        watching = RedisServer(folders[2], "--sentinel")
        stack.callback(watching.kill)
        file = folders[2] / "sentinel.conf"
        file.write_text(CONFIGURATION.format(port=master.port))
        watching.start(file)
        _wait_for(watching, str(copy.port).encode(), "SENTINEL", "REPLICAS", "main")
        yield master, f"redis+sentinel://127.0.0.1:{watching.port}/main"


def _wait_for(server: RedisServer, text: bytes, *words: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while text not in server.ask(*words):
        assert time.monotonic() < end_s, f"{words} never said {text!r}"
        time.sleep(0.02)  # there is no event that tells of it
