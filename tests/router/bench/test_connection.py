"""One connection, fed by hand."""

import pytest

from router.bench.connection import Connection
from tests.fakes.transport import FakeTransport

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"


class Heard:
    """What a listener is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def sent(self) -> None:
        self.told.append("sent")

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.told.append(status)

    def body(self, data: bytes) -> None:
        self.told.append(data)

    def over(self) -> None:
        self.told.append("over")

    def lost(self, why: str) -> None:
        self.told.append(f"lost: {why}")


def opened() -> tuple[Connection, Heard, list[Connection]]:
    freed: list[Connection] = []
    connection, heard = Connection(freed.append), Heard()
    connection.connection_made(FakeTransport())
    connection.ask(b"GET", heard)
    return connection, heard, freed


def test_after_a_whole_answer_the_connection_is_free():
    connection, heard, freed = opened()

    connection.data_received(WHOLE + b"\r\nab")

    assert heard.told == ["sent", 200, b"ab", "over"]
    assert freed == [connection]


def test_a_server_that_closes_after_its_answer_is_not_asked_again():
    connection, heard, freed = opened()

    connection.data_received(WHOLE + b"connection: close\r\n\r\nab")
    connection.connection_lost(None)

    assert heard.told[-1] == "over"
    assert freed == []
    assert connection.transport is None


def test_an_answer_without_a_length_ends_when_the_connection_does():
    connection, heard, _ = opened()

    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nab")
    connection.connection_lost(None)

    assert heard.told == ["sent", 200, b"ab", "over"]


def test_an_answer_that_breaks_off_is_lost_and_not_over():
    connection, heard, _ = opened()

    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nab")
    connection.connection_lost(ConnectionResetError("reset by peer"))

    assert heard.told[-1] == "lost: the connection broke: reset by peer"


def test_what_comes_after_it_was_dropped_is_heard_by_nobody():
    connection, heard, freed = opened()

    connection.drop()
    connection.drop()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nab")
    connection.connection_lost(None)
    connection.data_received(b"\x00")

    assert heard.told == ["sent"]
    assert freed == []


def test_a_second_request_waits_for_the_first_answer():
    connection, heard, _ = opened()

    with pytest.raises(RuntimeError, match="closed or in use"):
        connection.ask(b"GET", heard)
