"""Whether anything notices when a quirk or a fault does nothing.

`python -m tests.engines.emulator.switched_off` runs the tests of the emulated engines once for each
quirk of each kind and for each fault, with that one switched off, and exits with 1 naming those that
no test notices. Three minutes. As a pytest plugin it switches off what `SWITCH` in the environment
says.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Final

from engines.emulator.core import EmulatedEngine
from engines.emulator.faces.registry import FACES
from engines.emulator.faces.words import Quirks
from engines.emulator.server import Breakage, EngineServer
from engines.emulator.spec import HEALTHY, Faults
from engines.engine import Kind

SWITCH: Final = "HEADWAY_SWITCHED_OFF"
TESTS: Final = (
    "tests/engines/emulator/test_faults.py",
    "tests/engines/emulator/test_server.py",
    "tests/engines/emulator/test_faces.py",
    "tests/engines/emulator/test_openai_sdk.py",
)
FAILED: Final = 1
"""Status of pytest where a test failed; others are troubles of its own."""


def switches() -> Iterator[str]:
    """Yield everything that can be switched off, in words of the environment."""
    usual = Quirks()
    for kind, face in FACES.items():
        for each in fields(Quirks):
            if getattr(face.quirks, each.name) != getattr(usual, each.name):
                yield f"quirk {kind} {each.name}"
    yield from (f"fault {each.name}" for each in fields(Faults))
    yield from (f"breakage {each.name}" for each in fields(Breakage))


def switch_off(switch: str) -> None:
    """Let one quirk or fault do nothing, for the rest of the process."""
    match switch.split():
        case ["quirk", kind, name]:
            face = FACES[Kind(kind)]
            changes = {name: getattr(Quirks(), name)}
            type(face).quirks = replace(face.quirks, **changes)
        case ["fault", name]:
            healthy = {name: getattr(HEALTHY, name)}
            set_faults = EmulatedEngine.set_faults

            def without(self: EmulatedEngine, faults: Faults, now: float) -> None:
                set_faults(self, replace(faults, **healthy), now)

            EmulatedEngine.set_faults = without  # type: ignore[method-assign] # on purpose
        case ["breakage", name]:
            whole = {name: getattr(Breakage(), name)}
            break_server = EngineServer.set_faults

            def mended(self: EngineServer, faults: Faults, breakage: Any = None) -> None:
                break_server(self, faults, breakage and replace(breakage, **whole))

            EngineServer.set_faults = mended  # type: ignore[method-assign] # on purpose
        case _:
            raise ValueError(f"{switch!r} is no switch; one of {', '.join(switches())} would be")


def pytest_configure() -> None:
    """Switch off what the environment says."""
    switch_off(os.environ[SWITCH])


def noticed_by(switch: str) -> str | None:
    """Return the test that fails first with something switched off; None where none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", __spec__.name, *TESTS]
    done = subprocess.run(  # noqa: S603 # our own tests
        command, env=os.environ | {SWITCH: switch}, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-500:]}")
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return failed[0].rpartition("::")[2] if failed else None


def main() -> int:
    """Print who notices what; 1 where something goes unnoticed."""
    unnoticed = 0
    for switch in switches():
        test = noticed_by(switch)
        unnoticed += test is None
        sys.stdout.write(f"{switch:40} {test or 'NOBODY NOTICES'}\n")
        sys.stdout.flush()
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
