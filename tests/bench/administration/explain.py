"""Whether explanations foretell what the router does, in a thousand random states."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

TEST: Final = (
    "tests/policies/test_explaining.py"
    "::test_in_a_thousand_random_states_the_explanation_is_what_then_happens"
)


async def explain(_folder: Path, say: Callable[[str], None]) -> list[str]:
    """Run the test that says so; returns what falls short."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
    ran = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await ran.communicate()
    holds = ran.returncode == 0
    agreed = "agree" if holds else "do not agree"
    say(f"explanations and what then happens {agreed} in 1000 of 1000 random states and requests")
    if holds:
        return []
    say(told.decode(errors="replace"))
    return ["explain: an explanation was wrong"]
