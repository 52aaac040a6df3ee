"""What every test shares."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend():
    """Run on the loop that the router runs on."""
    return ("asyncio", {"use_uvloop": True})
