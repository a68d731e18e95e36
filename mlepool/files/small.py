"""Reads small files whole, with few calls of the system for each."""

from __future__ import annotations

import errno
import os
from stat import S_ISREG
from typing import NamedTuple

from mlepool.files.base import Chunk
from mlepool.files.chunks import chunk_bytes
from mlepool.files.descent import Root
from mlepool.files.proofs import READ_FLAGS, SOUND, looks, rate, settle
from mlepool.tree import Entry

__all__ = ["ChangedError", "SmallFile", "is_as_said", "read_small"]


class ChangedError(Exception):
    """A file is not what it was."""


class SmallFile(NamedTuple):
    """A file that was read.

    Attributes:
        data: All of it.
        chunks: What it consists of.
        stat: How it looked.
        noted_ns: What the clock of files said before it was read.
    """

    data: bytes
    chunks: tuple[Chunk, ...]
    stat: os.stat_result
    noted_ns: int


def read_small(root: Root, entry: Entry, noted_ns: int) -> SmallFile:
    """Read a file that is as its entry says.

    Args:
        root: The tree.
        entry: The file.
        noted_ns: What :func:`~mlepool.files.proofs.file_clock` said at any time before.

    Raises:
        ChangedError: If it is another by now, or changes while it is read.
        OSError: If it can't be read.
    """
    folder, name = root.parent(entry.path)
    fd = os.open(name, READ_FLAGS, dir_fd=folder)
    try:
        data, stat = _read(fd, entry)
        # What was last changed before that tick of the clock was not changed since, nor
        # while it was read: one look is enough.
        if rate(stat, noted_ns) != SOUND:
            before, noted_ns = settle(fd)
            data, stat = _read(fd, entry)
            if looks(before) != looks(stat):
                raise ChangedError
    finally:
        os.close(fd)
    return SmallFile(data, chunk_bytes(data), stat, noted_ns)


def is_as_said(found: os.stat_result, entry: Entry) -> bool:
    """Tell if a file has the size and the mtime that its entry says."""
    if found.st_size != entry.size or found.st_mtime_ns != entry.mtime_ns:
        return False
    return S_ISREG(found.st_mode)


def _read(fd: int, entry: Entry) -> tuple[bytes, os.stat_result]:
    try:
        data = os.pread(fd, entry.size + 1, 0)
    except OSError:
        if S_ISREG(os.fstat(fd).st_mode):
            raise
        raise ChangedError from None  # a folder or a pipe by now
    stat = os.fstat(fd)
    if not is_as_said(stat, entry):
        raise ChangedError
    if len(data) != entry.size:  # as in /proc, where all sizes are 0
        raise OSError(errno.EINVAL, "it has more or less in it than its size says")
    return data, stat
