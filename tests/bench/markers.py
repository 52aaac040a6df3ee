"""Puts what a benchmark measured between the markers of a document."""


class NoMarkers(Exception):
    """A file has no place for what is to be put there."""


def between(text: str, begin: str, end: str, tables: str, where: str) -> str:
    """Return a file's text with the tables between its markers.

    Raises NoMarkers, naming `where`.
    """
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise NoMarkers(f"{where}: no lines {begin!r} and {end!r}, in this order, to write between")
    return f"{before}{opened}\n{tables}{closed}{after}"
