"""Moves bytes between files, in the kernel where it can; zeros become holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from mlepool.files.proofs import pack_proof

__all__ = [
    "HOLE",
    "Range",
    "copy_if_unchanged",
    "copy_range",
    "read_at",
    "read_if_there",
    "write_at",
    "write_sparse",
]

HOLE = 64 * 1024  # bytes of zeros that are worth a hole
BLOCK = 1024 * 1024  # bytes read at once where the kernel can't copy
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ZEROS = bytes(HOLE)
# What copy_file_range says where it can't: reading and writing can.
_NOT_THERE = {
    *(errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM),
    *(errno.EBADF, errno.EIO, errno.ETXTBSY),
}


class Range(NamedTuple):
    """Bytes to copy: from which open file, where they begin there and where here."""

    source: int
    begin: int
    at: int
    length: int


def copy_range(source: int, target: int, *, begin: int, at: int, length: int) -> None:
    """Copy bytes from one open file to another.

    Raises:
        OSError: If they can't be written, or are not there.
    """
    done = 0
    while done < length:
        places = begin + done, at + done
        count = _copy_some((source, target), places, length - done)
        if count == 0:
            raise OSError(errno.ESTALE, "a file became shorter while it was copied")
        done += count


def copy_if_unchanged(target: int, range_: Range) -> bool:
    """Copy bytes from a file that others may change.

    Returns:
        False if they have, or it can't be read: then something else may be written.

    Raises:
        OSError: If there is no room.
    """
    source, begin, at, length = range_
    before = os.fstat(source)
    try:
        copy_range(source, target, begin=begin, at=at, length=length)
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise
        return False
    return pack_proof(os.fstat(source)) == pack_proof(before)


def _copy_some(fds: tuple[int, int], places: tuple[int, int], length: int) -> int:
    source, target = fds
    begin, at = places
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, length, begin, at)
        except OSError as exc:
            if exc.errno not in _NOT_THERE:
                raise
    data = os.pread(source, min(length, BLOCK), begin)
    write_at(target, data, at)
    return len(data)


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Read bytes; fewer if the file ends."""
    data = os.pread(fd, length, offset)
    while 0 < len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def read_if_there(fd: int, offset: int, length: int) -> bytes:
    """Read bytes; none if they can't be read."""
    try:
        return read_at(fd, offset, length)
    except OSError:
        return b""


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of some bytes.

    Raises:
        OSError: If the disk is full, or the quota.
    """
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


def write_sparse(fd: int, data: bytes, offset: int) -> None:
    """Write bytes where nothing was written before; long runs of zeros stay holes.

    The file may be too short then: who calls sets its size.
    """
    if len(data) < HOLE:
        write_at(fd, data, offset)
        return
    view = memoryview(data)
    for begin, end in _runs(data):
        write_at(fd, view[begin:end], offset + begin)


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Give what lies between long runs of zeros."""
    begin = 0
    probe = HOLE - 1  # a run that long has one of the bytes looked at
    while probe < len(data):
        run_begin, run_end = _zeros_around(data, probe) if not data[probe] else (0, 0)
        if run_end - run_begin >= HOLE:
            if begin < run_begin:
                yield begin, run_begin
            begin = run_end
        probe = max(probe, run_end) + HOLE
    if begin < len(data):
        yield begin, len(data)


def _zeros_around(data: bytes, at: int) -> tuple[int, int]:
    """Give where the zeros around a byte begin and end."""
    before = data[max(0, at + 1 - HOLE) : at + 1]
    begin = at + 1 - (len(before) - len(before.rstrip(b"\0")))
    end = at + 1
    while data[end : end + HOLE] == _ZEROS:
        end += HOLE
    after = data[end : end + HOLE]
    return begin, end + len(after) - len(after.lstrip(b"\0"))
