"""What proves that a file still is what it was when its content was read.

As in git: device, inode, size, mtime and ctime. Who changes a file changes its ctime,
and can't set it. But a clock has ticks: what changes in the tick in which it was last
looked at has the same ctime before and after. Such a record is racy: it tells where
the content is likely to be, and proves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from mlepool.files.base import Chunk
from mlepool.files.descent import open_real

__all__ = [
    "COARSE_TICK",
    "LOOSE",
    "RACY",
    "READ_FLAGS",
    "SOUND",
    "Location",
    "Record",
    "file_clock",
    "has_times",
    "is_same",
    "look",
    "looks",
    "pack_proof",
    "rate",
    "reach",
    "settle",
]

# How far a record is to be trusted, if the file looks as it did.
LOOSE = 0  # ctime is not compared: we moved it ourselves
RACY = 1  # may have been changed in the tick when it was read
SOUND = 2  # has the same content

_PROOF = struct.Struct("<5Q")
_SIZE_AND_MTIME = struct.Struct("<2Q")
_SIZE_AT = 2 * 8  # bytes before that
_WITHOUT_CTIME = 4 * 8  # bytes of it
_MASK = (1 << 64) - 1
REALTIME_COARSE = 5  # Linux's; Python has no name for it
COARSE = 10_000_000  # ns; ctimes that are all multiples of it come from a coarse clock
COARSE_TICK = 2_000_000_000  # ns; FAT's
LONGEST_WAIT = 20_000_000  # ns; a tick of a file's clock is 10 ms at most
READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that took a file's place: no wait
)


class Record(NamedTuple):
    """What a file consists of.

    Attributes:
        path: Its absolute real path.
        stat: How it looked after it was read.
        chunks: All of them, in order; or as bytes, packed by the catalogue.
        noted_ns: What :func:`file_clock` said before it was read.
    """

    path: bytes
    stat: os.stat_result
    chunks: Sequence[Chunk] | bytes
    noted_ns: int


class Location(NamedTuple):
    """Where content lies.

    Attributes:
        path: The file's absolute path.
        offset: Where in it, bytes.
        length: Bytes.
        proof: How the file looked.
        trust: :data:`SOUND`, :data:`RACY` or :data:`LOOSE`.
    """

    path: bytes
    offset: int
    length: int
    proof: bytes
    trust: int

    @property
    def is_proven(self) -> bool:
        """False if what is read there is to be hashed before it is believed."""
        return self.trust == SOUND

    def open(self) -> int | None:
        """Open the file; who calls closes.

        Returns:
            None if it is not there any more, or is another.
        """
        try:
            fd = reach(self.path)
        except OSError:
            return None
        if is_same(self.proof, pack_proof(os.fstat(fd)), self.trust):
            return fd
        os.close(fd)
        return None


def file_clock() -> int:
    """Tell the time by the clock that file times come from, ns since the epoch."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(REALTIME_COARSE)
    return time.time_ns() - COARSE  # some tick that others have


def settle(fd: int) -> tuple[os.stat_result, int]:
    """Look at a file that is to be read, so that a change from now on will be seen.

    If it was changed in the tick of the clock that still lasts, wait for the next one:
    some milliseconds. Of a coarser clock that is not the whole tick.

    Returns:
        How it looks, and what :func:`file_clock` said before.
    """
    noted_ns = file_clock()
    stat = os.fstat(fd)
    if 0 <= stat.st_ctime_ns - noted_ns < LONGEST_WAIT:
        while noted_ns <= stat.st_ctime_ns:
            time.sleep(0.001)
            noted_ns = file_clock()
        stat = os.fstat(fd)
    return stat, noted_ns


def rate(stat: os.stat_result, noted_ns: int) -> int:
    """Tell how far a record is to be trusted: :data:`SOUND` or :data:`RACY`."""
    tick = 0 if stat.st_ctime_ns % COARSE else COARSE_TICK
    return SOUND if stat.st_ctime_ns + tick < noted_ns else RACY


def pack_proof(stat: os.stat_result) -> bytes:
    """Give what is compared of a file."""
    return _PROOF.pack(
        stat.st_dev & _MASK,
        stat.st_ino & _MASK,
        stat.st_size,
        stat.st_mtime_ns & _MASK,
        stat.st_ctime_ns & _MASK,
    )


def has_times(proof: bytes, size: int, mtime_ns: int) -> bool:
    """Tell if a file had a size and an mtime."""
    return _SIZE_AND_MTIME.unpack_from(proof, _SIZE_AT) == (size, mtime_ns & _MASK)


def looks(stat: os.stat_result) -> tuple[int, int, int]:
    """Give what any change of an open file changes: size, mtime and ctime."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def is_same(proof: bytes, other: bytes | None, trust: int) -> bool:
    """Tell if a file looks as it did; None is no file."""
    if other is None:
        return False
    if trust == LOOSE:
        return proof[:_WITHOUT_CTIME] == other[:_WITHOUT_CTIME]
    return proof == other


def reach(path: bytes) -> int:
    """Open a file for reading by its absolute path, of any length; never a link.

    Raises:
        OSError: If it can't be opened.
    """
    try:
        return os.open(path, READ_FLAGS)
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise
    folder = open_real(os.path.dirname(path))
    try:
        return os.open(os.path.basename(path), READ_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def look(path: bytes) -> bytes | None:
    """Give the proof of what is at a path now; None if nothing can be read there."""
    try:
        return pack_proof(os.lstat(path))
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            return None
    with contextlib.suppress(OSError):
        fd = reach(path)
        try:
            return pack_proof(os.fstat(fd))
        finally:
            os.close(fd)
    return None
