"""What a job's drainer and the supervisor say to each other, in memory of both."""

from __future__ import annotations

import ctypes
import mmap

from mlepool.wire.records import STREAM_NAMES

__all__ = ["Notes"]

_BY_STREAM = max(STREAM_NAMES) + 1
_DIGEST = 40  # bytes; hexadecimal, and a zero behind it


class Notes(ctypes.Structure):
    """How far a drainer has come. One writes, the other reads; a number is never torn.

    ``is_unread`` and ``busy`` are written by the supervisor.

    Attributes:
        position: Journal bytes written.
        dropped: Bytes of output that could not be written.
        is_pressed: True once less of the disk was free than should be; who has read
            that sets it back.
        is_unable: True if pipes can't be poured into files here: nothing was done.
        is_unread: True while nobody keeps up with what the job writes.
        busy: When another job began or wrote something: as of ``time.monotonic()``,
            the same in all processes.
        is_done: True once nothing follows, and the offsets and digests are the last.
        offsets: Bytes that each stream has had; those that are about to be dropped
            are among them before they are taken from the pipe.
        digests: In hexadecimal; empty for one that is not known.
    """

    position: int
    dropped: int
    is_pressed: bool
    is_unable: bool
    is_unread: bool
    busy: float
    is_done: bool
    offsets: ctypes.Array[ctypes.c_uint64]
    digests: ctypes.Array[ctypes.Array[ctypes.c_char]]

    _fields_ = (
        ("position", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("is_pressed", ctypes.c_bool),
        ("is_unable", ctypes.c_bool),
        ("is_unread", ctypes.c_bool),
        ("busy", ctypes.c_double),
        ("is_done", ctypes.c_bool),
        ("offsets", ctypes.c_uint64 * _BY_STREAM),
        ("digests", ctypes.c_char * _DIGEST * _BY_STREAM),
    )

    @classmethod
    def shared(cls) -> Notes:
        """Make notes that a process that is forked from now on shares with this one."""
        return cls.from_buffer(mmap.mmap(-1, ctypes.sizeof(cls)))
