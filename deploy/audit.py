# ruff: noqa: INP001 # a script that stands alone
"""Asks whether flaws are known of what a release is locked to; says so where nobody can tell.

    python deploy/audit.py PIP_AUDIT LOCK...

Ends with 1 where a flaw is known. Where the data cannot be had (no network, an index without
it) it says so and ends with 0: nothing was found to be wrong, and nothing to be right.
"""

import json
import subprocess  # nosec B404 # one tool, named by the Makefile
import sys
from collections.abc import Sequence
from typing import Any

LIMIT_S = 120.0


def verdict(reports: Sequence[dict[str, Any] | None]) -> tuple[int, list[str]]:
    """Return the exit status and what to say of pip-audit's reports; None: there is none."""
    known = [each for report in reports if report for each in report["dependencies"]]
    judged = {each["name"]: each for each in known if "vulns" in each}
    unknown = {each["name"] for each in known if "skip_reason" in each}
    lines = [
        f"{name} {each['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no release'}"
        for name, each in sorted(judged.items())
        for flaw in each["vulns"]
    ]
    if lines:
        return 1, lines
    if None in reports or not judged:
        return 0, ["not audited: the data on known flaws cannot be had here"]
    if unknown:
        return 0, [f"no data on {', '.join(sorted(unknown))}; no flaw is known of the others"]
    return 0, [f"no flaw is known of {len(judged)} packages"]


def ask(tool: str, lock: str) -> dict[str, Any] | None:
    """Return pip-audit's report on one lock; None where it could not make one."""
    command = [tool, "--disable-pip", "--require-hashes", "--progress-spinner", "off",
               "--format", "json", "--requirement", lock]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 # nosec B603 # of the Makefile
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return report


def main(tool: str, *locks: str) -> int:
    """Audit every lock."""
    status, lines = verdict([ask(tool, lock) for lock in locks])
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
