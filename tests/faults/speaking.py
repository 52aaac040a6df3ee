"""A stand-in whose text can be gone on with, in a process of its own: `python -m tests.faults.speaking`."""

import argparse
import asyncio
import signal
from pathlib import Path

from engines.launch.child import Child
from tests.fakes.scripted import ScriptedEngine
from tests.faults.markov import Speaker

PAUSE_S = 0.03
START_S = 20.0


def speaker(port: int, log: Path) -> Child:
    """Start one."""
    process = Child("tests.faults.speaking", ["--port", str(port)], log)
    process.wait_until_ready(f"http://127.0.0.1:{port}/health", START_S)
    return process


async def serve(port: int) -> None:
    """Speak until told to stop."""
    engine = ScriptedEngine(Speaker(f"cmpl-{port}", PAUSE_S))
    server = await asyncio.start_server(engine.serve, "127.0.0.1", port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await engine.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen")
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
