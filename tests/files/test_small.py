"""Small files, read whole while they change."""

import os
import time
from pathlib import Path

import pytest

from mlepool.files.chunks import chunk_bytes
from mlepool.files.descent import Root
from mlepool.files.proofs import SOUND, file_clock, rate
from mlepool.files.small import ChangedError, read_small
from mlepool.tree import FILE, Entry


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "file").write_bytes(b"first")
    return tmp_path


@pytest.fixture
def root(tree):
    root = Root(os.open(tree, os.O_RDONLY))
    yield root
    root.close()


def entry_of(path: Path) -> Entry:
    stat = path.stat()
    mode = stat.st_mode & 0o7777
    return Entry(os.fsencode(path.name), FILE, mode, stat.st_size, stat.st_mtime_ns)


def wait_for_the_next_tick(path: Path) -> None:
    while file_clock() <= path.stat().st_ctime_ns:
        time.sleep(0.001)


def test_a_file_is_read_with_what_proves_it(tree, root):
    wait_for_the_next_tick(tree / "file")
    clock = file_clock()
    found = read_small(root, entry_of(tree / "file"), clock)
    assert (found.data, found.chunks) == (b"first", chunk_bytes(b"first"))
    assert (found.stat, found.noted_ns) == ((tree / "file").stat(), clock)


def test_one_of_this_tick_is_read_in_the_next(tree, root):
    (tree / "file").write_bytes(b"other")
    found = read_small(root, entry_of(tree / "file"), 0)
    assert found.data == b"other"
    assert rate(found.stat, found.noted_ns) == SOUND


@pytest.mark.parametrize("change", [b"longer than it was", b"other", b""])
def test_one_that_is_another_by_now_is_refused(tree, root, change):
    entry = entry_of(tree / "file")
    wait_for_the_next_tick(tree / "file")
    (tree / "file").write_bytes(change)
    with pytest.raises(ChangedError):
        read_small(root, entry, file_clock())


def test_one_that_changes_while_it_is_read_is_refused_also_with_its_old_mtime(
    tree, root, monkeypatch
):
    path = tree / "file"
    entry = entry_of(path)
    wait_for_the_next_tick(path)
    clock = file_clock()
    read = os.pread
    reads: list[bytes] = []

    def pread(fd: int, size: int, offset: int) -> bytes:
        data = read(fd, size, offset)
        wait_for_the_next_tick(path)
        path.write_bytes(b"%05d" % len(reads))
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        reads.append(data)
        return data

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(ChangedError):
        read_small(root, entry, clock)
    assert reads[0] == b"first"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_any_more_is_refused(tree, root, make):
    entry = entry_of(tree / "file")
    (tree / "file").unlink()
    make(tree / "file")
    with pytest.raises(ChangedError):
        read_small(root, entry, file_clock())
