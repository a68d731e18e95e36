"""Files written whole or not at all, punched, and made safe; disks measured."""

import functools
import os
import subprocess
import sys
import threading

import pytest

from mlepool.supervisor.files import (
    MANY,
    MOST_FREE,
    Disk,
    Syncer,
    look_at_disk,
    punch,
    punches,
    write_whole,
)

MIB = 1024 * 1024


@pytest.fixture
def fd(tmp_path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_parts_are_written_one_behind_the_other(fd):
    assert write_whole(fd, [b"one", b"", b"two"], 2) == 8
    assert os.pread(fd, 100, 0) == b"\0\0onetwo"


def test_what_does_not_fit_leaves_nothing_behind(tmp_path):
    code = (
        "import os, resource, signal\n"
        "from mlepool.supervisor.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "fd = os.open('file', os.O_RDWR | os.O_CREAT)\n"
        "at = write_whole(fd, [b'x' * 600], 0)\n"
        "try:\n"
        "    write_whole(fd, [b'y' * 300, b'z' * 300], at)\n"
        "except OSError as exc:\n"
        "    print(exc.errno, os.fstat(fd).st_size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["27", "600"], done.stderr  # EFBIG


def test_a_punched_part_reads_as_zeros_and_takes_no_room(fd):
    if not punches(fd):
        pytest.skip("this file system does not give parts of files back")
    os.pwrite(fd, b"x" * 4 * MIB, 0)
    os.fsync(fd)
    before = os.fstat(fd).st_blocks
    punch(fd, MIB, 2 * MIB)
    assert os.fstat(fd).st_size == 4 * MIB
    assert os.fstat(fd).st_blocks <= before - 2 * MIB // 512
    assert os.pread(fd, 2, MIB - 1) == b"x\0"
    assert os.pread(fd, 2, 3 * MIB - 1) == b"\0x"


def test_a_disk_lacks_what_should_be_free_but_never_more_than_so_much(tmp_path):
    assert Disk(1000, 150).lacks(0.1) == 0
    assert Disk(1000, 30).lacks(0.1) == 70
    assert Disk(1000 * MOST_FREE, MOST_FREE).lacks(0.1) == 0
    found = look_at_disk(tmp_path)
    assert 0 < found.free <= found.size


@pytest.mark.parametrize("count", [1, MANY * 2])
def test_files_are_made_safe_and_closed(tmp_path, count):
    woken = threading.Event()
    syncer = Syncer(tmp_path, woken.set)
    safe: list[int] = []
    fds = [os.open(tmp_path / str(one), os.O_RDWR | os.O_CREAT) for one in range(count)]
    for fd in fds:
        syncer.add(fd, functools.partial(safe.append, fd))
    while len(safe) < count:
        assert woken.wait(10)
        woken.clear()
        syncer.settle()
    assert sorted(safe) == sorted(fds)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
