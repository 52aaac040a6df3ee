# ruff: noqa: INP001 # a script that stands alone: it also runs where nothing is installed
"""Compile the router's hot modules to machine code with mypyc, in a copy of the source tree.

    python deploy/compile.py .build/compiled

The copy holds sources and shared objects side by side, made from the very same text: it is made
anew, whole, when a source, the list below, the interpreter or the compiler has changed, and
nothing is ever written beside the sources themselves. Needs mypy (of the `dev` lock), setuptools
and a C compiler. Run from the root of the tree; `python -m router serve` in the copy runs compiled.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("policies", "engines", "router")
STAMP = "built-from"
HOT = (
    "policies/admission.py",
    "policies/affinity.py",
    "policies/backlog.py",
    "policies/classify.py",
    "policies/commands.py",
    "policies/dispatcher.py",
    "policies/facts.py",
    "policies/fairness.py",
    "policies/fleet.py",
    "policies/flight.py",
    "policies/guard.py",
    "policies/health.py",
    "policies/latency.py",
    "policies/lengths.py",
    "policies/limits.py",
    "policies/ordering.py",
    "policies/others.py",
    "policies/peak.py",
    "policies/placing.py",
    "policies/pools.py",
    "policies/progress.py",
    "policies/quotas.py",
    "policies/reading.py",
    "policies/regression.py",
    "policies/retry.py",
    "policies/roster.py",
    "policies/routes.py",
    "policies/timely.py",
    "engines/edits.py",
    "engines/engine.py",
    "engines/fields.py",
    "engines/sse.py",
    "engines/usage.py",
    "engines/vllm.py",
    "router/access/allotment.py",
    "router/access/gate.py",
    "router/access/keyring.py",
    "router/access/told.py",
    "router/access_log.py",
    "router/answer.py",
    "router/attempt.py",
    "router/beginnings.py",
    "router/body_values.py",
    "router/counters.py",
    "router/door.py",
    "router/endpoint.py",
    "router/header_values.py",
    "router/intake.py",
    "router/intake_body.py",
    "router/intake_features.py",
    "router/intake_headers.py",
    "router/json_line.py",
    "router/metrics.py",
    "router/prompt_size.py",
    "router/proxy.py",
    "router/relay.py",
    "router/wire/framing.py",
    "router/wire/heads.py",
    "router/wire/inbound.py",
    "router/wire/knocks.py",
    "router/wire/upstream.py",
)
"""What runs for every request or every event of a stream."""
MYPY_SETTINGS = """\
[mypy]
strict = true
explicit_package_bases = true
namespace_packages = true
mypy_path = .
"""
SETUP = """\
import sys
from mypyc.build import mypycify
from setuptools import setup
setup(
    name="hot",
    packages=[],
    ext_modules=mypycify(
        ["--config-file=mypy.ini", "--python-executable", sys.argv.pop(), *sys.argv.pop().split(",")],
        opt_level="3",
        debug_level="0",
        multi_file=True,
        group_name="headway",
    ),
)
"""


class CannotCompile(Exception):
    """What is missing, or what the compiler said."""


def fingerprint(root: Path = ROOT) -> str:
    """Return what the compiled tree depends on, in short."""
    made = hashlib.sha256(sys.version.encode())
    made.update(Path(__file__).read_bytes())
    made.update(_compiler_version().encode())
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                made.update(f"\0{path.relative_to(root)}\0".encode())
                made.update(path.read_bytes())
    return made.hexdigest()


def _compiler_version() -> str:
    try:
        from mypy.version import __version__  # noqa: PLC0415 # only where it is needed
    except ImportError:
        raise CannotCompile("mypy is not installed; make setup installs it") from None
    return __version__


def is_compiled(tree: Path, root: Path = ROOT) -> bool:
    """Return whether `tree` was compiled from the very sources in `root`, by this interpreter.

    Raises CannotCompile.
    """
    stamp = tree / STAMP
    return stamp.exists() and stamp.read_text() == fingerprint(root)


def compiled(into: Path, root: Path = ROOT, python: str = sys.executable) -> bool:
    """Make `into` the compiled tree; return whether there was anything to do.

    `python` is the interpreter whose packages the router's are read with.

    Raises CannotCompile.
    """
    if is_compiled(into, root):
        return False
    mark = fingerprint(root)
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        raise CannotCompile("no C compiler on PATH; the router also runs without being compiled")
    fresh = into.with_name(into.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(root / package, fresh / package, ignore=ignored)
    (fresh / "mypy.ini").write_text(MYPY_SETTINGS)
    (fresh / "setup.py").write_text(SETUP)
    _build(fresh, python)
    for scrap in ("build", ".mypy_cache"):
        shutil.rmtree(fresh / scrap, ignore_errors=True)
    for scrap in ("setup.py", "mypy.ini"):
        (fresh / scrap).unlink()
    (fresh / STAMP).write_text(mark)
    shutil.rmtree(into, ignore_errors=True)
    fresh.replace(into)
    return True


def _build(tree: Path, python: str) -> None:
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    command += [",".join(HOT), python]
    outcome = subprocess.run(  # noqa: S603 # nosec B603 # our own sources
        command, cwd=tree, capture_output=True, text=True, check=False
    )
    if outcome.returncode != 0:
        raise CannotCompile((outcome.stdout + outcome.stderr).strip()[-6000:])


def main() -> int:
    """Return 0 where the compiled tree stands, 1 where it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("into", type=Path, help="the copy of the tree; replaced where it is not")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter that has what the router needs (default: this one)",
    )
    given = parser.parse_args()
    try:
        did = compiled(given.into.absolute(), python=given.python)
    except CannotCompile as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("compiled\n" if did else "up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
