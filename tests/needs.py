"""What a test needs of its machine: without it a test is skipped, in CI it fails."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

NOBODY = 65534  # uid and gid of an account that owns nothing


def lacking(what: str) -> NoReturn:
    """Skip the test; where CI is set that would hide something, so fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"this test needs {what}")
    pytest.skip(f"needs {what}")


def need_root() -> None:
    """Be root: other accounts and mounts are tried."""
    if os.geteuid() != 0:
        lacking("root")


def need_program(name: str) -> str:
    """Give a program's path."""
    return shutil.which(name) or lacking(name)


def small_disk(folder: Path, size: str) -> contextlib.AbstractContextManager[Path]:
    """Mount a file system that is full after ``size`` bytes."""
    options = f"size={size},mode=0700"
    return mounted(folder, ["-t", "tmpfs", "-o", options, "mlepool-test"])


def simple_disk(folder: Path) -> contextlib.AbstractContextManager[Path]:
    """Mount a file system that can't give back parts of files, nor say its size."""
    return mounted(folder, ["-t", "ramfs", "mlepool-test"])


@contextlib.contextmanager
def mounted(folder: Path, words: list[str]) -> Iterator[Path]:
    """Mount something for a while."""
    need_root()
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", *words, str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lacking(f"the right to mount ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def unread(pid: int) -> int:
    """Give the bytes that a process has written to its stdout and nobody has read."""
    pipe = os.open(f"/proc/{pid}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    finally:
        os.close(pipe)
    return int(count)
