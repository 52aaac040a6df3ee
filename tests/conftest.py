"""What every test shares."""

import gc
import os

import pytest

from tests.canary import has_secret


def pytest_configure():
    """Look for garbage more often where GC_THRESHOLD says so: what was freed too early shows."""
    threshold = int(os.environ.get("GC_THRESHOLD", "0"))
    if threshold:
        gc.set_threshold(threshold, 2, 2)


@pytest.fixture(scope="session")
def anyio_backend():
    """Run on the loop that the router runs on."""
    return ("asyncio", {"use_uvloop": True})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail a test that has let a secret into a log, or onto the terminal."""
    report = yield
    places = [name for name, text in report.sections if has_secret(text)]
    if report.passed and places:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} has let a secret out: {', '.join(places)}"
    return report
