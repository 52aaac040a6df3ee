"""What every test shares."""

import gc
import os

import pytest


def pytest_configure():
    """Look for garbage more often where GC_THRESHOLD says so: what was freed too early shows."""
    threshold = int(os.environ.get("GC_THRESHOLD", "0"))
    if threshold:
        gc.set_threshold(threshold, 2, 2)


@pytest.fixture(scope="session")
def anyio_backend():
    """Run on the loop that the router runs on."""
    return ("asyncio", {"use_uvloop": True})
