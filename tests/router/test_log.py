"""The access log, the log of states, and the thread that writes both."""

import json
import logging
import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.access_log import AccessLog
from router.lines import LineWriter
from router.log import LineHandler, Style, start_logging

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def idle(target: Path | int, **limits: int) -> LineWriter:
    """Return a writer whose thread sleeps until it is asked to flush or close."""
    return LineWriter(target, flush_s=3600.0, **limits)


@pytest.fixture
def log_path(tmp_path):
    return tmp_path / "access.log"


@pytest.fixture
def pipe():
    """Return a pipe's reading and writing ends, open until the test is over."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def logger_to(writer: LineWriter, style: Style) -> logging.Logger:
    logger = logging.getLogger("router.test")
    logger.handlers[:] = [LineHandler(writer, style)]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    return logger


def test_lines_come_out_in_the_order_in_which_they_went_in(log_path):
    writer = idle(log_path)
    for number in range(1000):
        writer.append(b"%d\n" % number)

    assert writer.close() == 0
    assert log_path.read_text().split() == [str(number) for number in range(1000)]


def test_a_line_is_written_soon_without_being_asked_for(pipe):
    read_end, write_end = pipe
    writer = LineWriter(write_end, flush_s=0.01)
    writer.append(b"hello\n")

    assert os.read(read_end, 100) == b"hello\n"
    writer.close()


def test_many_lines_are_written_at_once_without_waiting_for_the_clock(pipe):
    read_end, write_end = pipe
    writer = idle(write_end, flush_bytes=10)
    writer.append(b"12345\n")
    writer.append(b"67890\n")

    assert os.read(read_end, 6) == b"12345\n"
    writer.close()


def test_whoever_appends_never_waits_for_a_reader_that_stands_still():
    read_end, write_end = os.pipe()
    writer = idle(write_end, flush_bytes=1, limit_bytes=1 << 20)
    for _ in range(3000):
        writer.append(b"x" * 999 + b"\n")
    left = writer.close(timeout_s=0.01)
    os.close(read_end)  # which lets the writer's thread go
    writer._thread.join()
    os.close(write_end)

    assert writer.dropped >= 3000 - (1 << 20) // 1000 - 66
    assert left > 0
    assert len(writer._lines) == left


def test_what_was_dropped_makes_room_for_nothing_and_what_was_written_does(log_path):
    writer = idle(log_path, limit_bytes=10)
    writer.append(b"12345\n")
    writer.append(b"67890\n")
    writer.flush()
    writer.append(b"abcde\n")

    assert writer.dropped == 1
    writer.close()
    assert log_path.read_bytes() == b"12345\nabcde\n"


def test_a_file_that_was_moved_away_is_opened_afresh(log_path, tmp_path):
    writer = idle(log_path)
    writer.append(b"old\n")
    writer.flush()
    log_path.rename(tmp_path / "access.log.1")
    writer.append(b"fresh\n")
    writer.close()

    assert (tmp_path / "access.log.1").read_bytes() == b"old\n"
    assert log_path.read_bytes() == b"fresh\n"


def test_a_file_that_was_replaced_by_another_is_followed(log_path, tmp_path):
    writer = idle(log_path)
    log_path.rename(tmp_path / "access.log.1")
    log_path.write_bytes(b"begun by the rotation\n")
    writer.append(b"line\n")
    writer.close()

    assert log_path.read_bytes() == b"begun by the rotation\nline\n"


def test_while_the_path_cannot_be_opened_the_old_file_is_kept(log_path, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = idle(folder / "access.log")
    folder.rename(tmp_path / "elsewhere")
    writer.append(b"line\n")
    writer.close()

    assert (tmp_path / "elsewhere" / "access.log").read_bytes() == b"line\n"


def test_a_full_disk_costs_lines_and_nothing_else():
    writer = idle(Path("/dev/full"))
    writer.append(b"one\n")
    writer.flush()
    writer.append(b"two\n")

    assert writer.close() == 0
    assert writer.failed == 2


def test_a_line_cut_short_does_not_swallow_the_one_after_it(log_path):
    writer = idle(log_path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer.append(b"too long for the disk\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, unlimited[1]))
    try:
        writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    writer.append(b"after\n")
    writer.close()

    assert log_path.read_bytes() == b"too long\nafter\n"
    assert writer.failed == 1


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe):
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    writer = LineWriter(write_end, flush_s=0.01)
    size = 1 << 20
    writer.append(b"x" * (size - 1) + b"\n")
    taken = 0
    while taken < size:
        taken += len(os.read(read_end, 1 << 16))

    assert writer.close() == 0
    assert (writer.failed, taken) == (0, size)


def test_a_target_that_cannot_be_opened_is_told_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        LineWriter(tmp_path / "missing" / "access.log")


def test_a_request_is_one_line_of_json_with_its_fields_and_the_time(log_path):
    writer = idle(log_path)
    AccessLog(writer, lambda: NOON).ended({"request_id": "r-1", "class": "bulk", "queue_s": 0.25})
    writer.close()

    assert json.loads(log_path.read_text()) == {
        "time": "2026-11-24T12:00:00.000000Z",
        "request_id": "r-1",
        "class": "bulk",
        "queue_s": 0.25,
    }


@settings(max_examples=50, deadline=None)
@given(
    model=st.text(st.characters(exclude_categories=())),
    tokens=st.integers(-(2**70), 2**70),
    seconds=st.floats(),
)
def test_no_value_breaks_a_line_in_two_or_is_refused(tmp_path_factory, model, tokens, seconds):
    path = tmp_path_factory.mktemp("log") / "access.log"
    writer = idle(path)
    AccessLog(writer, lambda: NOON).ended(
        {"model": model, "prompt_tokens": tokens, "queue_s": seconds}
    )
    writer.close()
    (line,) = path.read_bytes().splitlines()

    assert json.loads(line)["model"] == model
    assert json.loads(line)["prompt_tokens"] == tokens


def test_a_state_change_is_json_with_its_event_and_fields(log_path):
    writer = idle(log_path)
    logger_to(writer, Style.JSON).warning("endpoint down", extra={"endpoint": "vllm-0"})
    writer.close()
    line = json.loads(log_path.read_text())

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "router.test",
        "event": "endpoint down",
        "endpoint": "vllm-0",
    }


def test_in_the_plain_style_a_value_cannot_forge_another_field_or_line(log_path):
    writer = idle(log_path)
    logger_to(writer, Style.PLAIN).info(
        "endpoint %s", "up\nagain", extra={"endpoint": "a b\nERROR x=1", "pool": "fast"}
    )
    writer.close()
    (line,) = log_path.read_text().splitlines()

    assert line.endswith(r'INFO endpoint up again endpoint="a b\nERROR x=1" pool=fast')


@pytest.mark.parametrize("style", Style)
def test_an_exception_is_written_with_its_traceback(log_path, style):
    writer = idle(log_path)
    try:
        int("the cause")
    except ValueError:
        logger_to(writer, style).exception("prober failed")
    writer.close()

    assert "Traceback" in log_path.read_text()
    assert "the cause" in log_path.read_text()


@pytest.fixture
def root_logger():
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger")
def test_once_started_the_level_rules_and_probes_are_not_a_line_each(log_path):
    writer = idle(log_path)
    logging.getLogger().handlers.clear()
    start_logging(writer, Style.PLAIN, "info")
    logging.getLogger("router.x").debug("too fine")
    logging.getLogger("router.x").info("wanted")
    logging.getLogger("httpx").info("HTTP Request: GET /health")
    writer.close()
    (line,) = log_path.read_text().splitlines()

    assert line.endswith("INFO wanted")
