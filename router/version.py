"""Which Headway this is."""

from importlib.metadata import PackageNotFoundError, version


def headway_version() -> str:
    """Return the installed package's version; "unknown" in a checkout that was not installed."""
    try:
        return version("headway")
    except PackageNotFoundError:
        return "unknown"
