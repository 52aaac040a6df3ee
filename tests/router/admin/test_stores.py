"""Stores keep what was acknowledged, and tell the second of two writers that it came second."""

import os
from dataclasses import replace

import pytest

from router.admin.file_store import FileStore
from router.admin.revisions import KEPT, MemoryStore, NotStored, Revision, Superseded

FIRST = Revision(1, 0.0, "ann", "127.0.0.1", "why", "put", {"a": 1})


def revision(version: int) -> Revision:
    return replace(FIRST, version=version)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "s" / "a.jsonl")


async def test_what_was_appended_is_read_in_order(store):
    await store.append(FIRST)
    await store.append(revision(2))

    assert await store.read() == [FIRST, revision(2)]
    assert await store.read(1) == [revision(2)]


@pytest.mark.parametrize("version", [1, 3])
async def test_a_version_that_does_not_follow_is_refused(store, version):
    await store.append(FIRST)

    with pytest.raises(Superseded):
        await store.append(revision(version))
    assert await store.read() == [FIRST]


async def test_at_every_byte_a_crash_leaves_the_last_acknowledged_version(tmp_path):
    path = tmp_path / "a.jsonl"
    store = FileStore(path)
    await store.append(FIRST)
    acknowledged = path.stat().st_size
    await store.append(revision(2))
    whole = path.read_bytes()

    for size in range(acknowledged, len(whole)):
        path.write_bytes(whole[:size])
        after = FileStore(path)
        assert await after.read() == [FIRST]
        await after.append(revision(2))
        assert await FileStore(path).read() == [FIRST, revision(2)]


async def test_a_long_file_is_written_anew_and_keeps_the_latest(tmp_path):
    store = FileStore(tmp_path / "a.jsonl")
    for version in range(1, 2 * KEPT + 3):
        await store.append(revision(version))

    assert len((tmp_path / "a.jsonl").read_bytes().splitlines()) == KEPT + 2
    latest = await FileStore(tmp_path / "a.jsonl").read()
    assert [each.version for each in latest] == list(range(KEPT + 3, 2 * KEPT + 3))


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(NotStored, match="see to \\[state\\]"):
        await FileStore(tmp_path / "file" / "a.jsonl").append(FIRST)


async def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    store = FileStore(tmp_path / "a.jsonl")
    await store.append(FIRST)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))

    with pytest.raises(NotStored):
        await store.append(revision(2))
    monkeypatch.undo()
    assert await FileStore(tmp_path / "a.jsonl").read() == [FIRST]


async def test_a_line_that_is_no_revision_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")

    with pytest.raises(NotStored, match="line 1"):
        await FileStore(tmp_path / "a.jsonl").read()
