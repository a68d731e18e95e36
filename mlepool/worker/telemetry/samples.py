"""Samples on disk: appended, given in order, let go once they are acknowledged.

A folder of segments, each named after the id of its first record. A record is length,
CRC-32 and payload; what is torn at a segment's end, by a kill or a loss of power, is
passed over, and never written after: each start of a worker begins a new segment. No
write waits for the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["SAMPLES_FOLDER", "Kept", "SampleStore"]

logger = logging.getLogger("mlepool.worker")

SAMPLES_FOLDER = "samples"  # in the state folder
SUFFIX = ".samples"
MARKS_FILE = "marks"  # what is acknowledged, and how many were dropped
SEGMENTS = 16  # that the store consists of: the oldest sixteenth goes at a time
MAX_SEGMENT = 1024 * 1024  # bytes: what one look at a segment reads
MAX_RECORD = 768 * 1024  # bytes: a sample goes into one frame
IDS_A_SEGMENT = 100_000  # ids that a segment may use: the next one begins after them

MAX_ID = 1 << 62  # that a client may claim to have: ids must go on to fit in 64 bits

_HEADER = struct.Struct("<QII")  # id, length, CRC-32 of both and of the payload
_LENGTH = struct.Struct("<QI")
_MARKS = struct.Struct("<QQI")  # acknowledged, dropped, CRC-32 of both


class Kept(NamedTuple):
    """A sample that is kept: its id, and its bytes."""

    id: int
    data: bytes


class _Segment(NamedTuple):
    first: int
    path: Path


class SampleStore:
    """Keeps samples until they are acknowledged, within a size; for many threads.

    Ids grow for ever, also when the folder was emptied: they begin at the time, in
    milliseconds.

    Args:
        folder: Where segments are; made if it is not there.
        size: Bytes on disk; the oldest samples go first. 0 keeps none.

    Attributes:
        size: As given; may be set.
        last: The id that was given last.
        newest: The greatest id that is kept, or was.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        self.size = size
        self.last = 0
        self.newest = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._fd = -1
        self._end = 0
        self._total = 0
        self._segments: list[_Segment] = []
        self._acknowledged = 0
        self._dropped = 0
        self._complained = False

    @property
    def acknowledged(self) -> int:
        """The greatest id that was acknowledged."""
        return self._acknowledged

    @property
    def dropped(self) -> int:
        """How many were let go for want of room, since that was last forgiven."""
        return self._dropped

    def open(self, now: float) -> None:
        """Find what is there.

        Args:
            now: Seconds since the epoch.

        Raises:
            OSError: If the folder is not usable.
        """
        with self._lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._acknowledged, self._dropped = self._read_marks()
            self._segments = sorted(_segments(self._folder))
            self._total = sum(_size(one.path) for one in self._segments)
            used = self._segments[-1].first + IDS_A_SEGMENT if self._segments else 0
            self.last = max(used, self._acknowledged, int(now * 1000))
            found = (_records(one.path) for one in reversed(self._segments))
            self.newest = max(next(filter(None, map(_last_id, found)), 0), self.newest)
            self._let_go()

    def close(self) -> None:
        """Close the file; the next append begins another. Twice is fine."""
        with self._lock:
            self._close()

    def next_id(self) -> int:
        """Give the id of the next sample, that is kept or not."""
        with self._lock:
            self.last += 1
            return self.last

    def pass_over(self, sample_id: int) -> None:
        """Have the next ids be greater than one that somebody has.

        They are in any case, unless the folder was emptied and the clock set back.
        Who has that one would take what has a smaller id for what it had before.
        """
        with self._lock:
            self.last = max(self.last, min(sample_id, MAX_ID))

    def append(self, sample_id: int, data: bytes) -> bool:
        """Keep a sample.

        Args:
            sample_id: From :meth:`next_id`, greater than those before.
            data: Its bytes.

        Returns:
            False if it could not be kept.
        """
        with self._lock:
            try:
                if self.size <= 0 or len(data) > MAX_RECORD:
                    raise OSError("it is too large, or none are to be kept")
                self._append(sample_id, data)
            except OSError as exc:
                if self.size > 0:
                    self._complain("a sample can't be kept", exc)
                return False
            self.newest = sample_id
            self._complained = False
            return True

    def miss(self) -> None:
        """Note that a sample was not kept, and nobody had it."""
        with self._lock:
            self._count_dropped(1)

    def read(self, after: int, *, limit: int) -> list[Kept]:
        """Give the oldest samples that are not acknowledged.

        Args:
            after: Only such with a greater id.
            limit: Bytes; one sample is given in any case.
        """
        with self._lock:
            after = max(after, self._acknowledged)
            found: list[Kept] = []
            room = limit
            for number in range(self._place(after), len(self._segments)):
                for one in _records(self._segments[number].path):
                    if one.id <= after:
                        continue
                    room -= len(one.data)
                    if room < 0 and found:
                        return found
                    found.append(one)
            return found

    def acknowledge(self, sample_id: int, *, told: int = 0) -> None:
        """Note that somebody has all samples up to an id, and let go of them.

        Args:
            sample_id: The id; a smaller one than before is fine.
            told: How many of those that were dropped he was told of.
        """
        with self._lock:
            new = max(self._acknowledged, min(sample_id, self.last))
            dropped = max(0, self._dropped - told)
            if (new, dropped) == (self._acknowledged, self._dropped):
                return
            self._acknowledged, self._dropped = new, dropped
            self._write_marks()
            self._let_go()

    # -- within

    def _append(self, sample_id: int, data: bytes) -> None:
        record = _record(sample_id, data)
        segment = min(MAX_SEGMENT, max(self.size // SEGMENTS, 1))
        is_full = self._end and self._end + len(record) > segment
        if self._fd < 0 or is_full or not os.fstat(self._fd).st_nlink:
            self._begin(sample_id)
        written = os.pwrite(self._fd, record, self._end)
        if written != len(record):
            os.ftruncate(self._fd, self._end)
            raise OSError("there is no room for all of it")
        self._end += written
        self._total += written
        self._keep_to_size()

    def _begin(self, first: int) -> None:
        self._close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{first:020}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._end = 0
        self._segments.append(_Segment(first, path))

    def _keep_to_size(self) -> None:
        while self._total > self.size and len(self._segments) > 1:
            oldest = self._segments[0]
            lost = sum(one.id > self._acknowledged for one in _records(oldest.path))
            self._remove(oldest)
            self._count_dropped(lost)

    def _let_go(self) -> None:
        """Remove segments of which everything is acknowledged; not the newest one."""
        while len(self._segments) > 1:
            if self._segments[1].first - 1 > self._acknowledged and any(
                one.id > self._acknowledged for one in _records(self._segments[0].path)
            ):
                return
            self._remove(self._segments[0])

    def _remove(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        self._total -= _size(segment.path)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    def _place(self, after: int) -> int:
        """Give the number of the segment in which the samples after an id begin."""
        before = [one for one in self._segments if one.first <= after]
        return max(0, len(before) - 1)

    def _count_dropped(self, count: int) -> None:
        if count:
            self._dropped += count
            self._write_marks()

    def _read_marks(self) -> tuple[int, int]:
        try:
            data = (self._folder / MARKS_FILE).read_bytes()
            acknowledged, dropped, check = _MARKS.unpack(data)
        except (OSError, struct.error):
            return 0, 0
        if zlib.crc32(data[:16]) != check:
            return 0, 0  # who asks says up to where he has them
        return int(acknowledged), int(dropped)

    def _write_marks(self) -> None:
        """Write them over what was there: one small write, whole whoever is killed."""
        words = struct.pack("<QQ", self._acknowledged, self._dropped)
        data = words + struct.pack("<I", zlib.crc32(words))
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self._folder / MARKS_FILE, flags, 0o600)
            try:
                os.pwrite(fd, data, 0)
            finally:
                os.close(fd)
        except OSError as exc:
            self._complain("what is known of samples can't be noted", exc)

    def _complain(self, text: str, exc: OSError) -> None:
        """Warn once until a sample is kept again: a log must not fill a full disk."""
        level = logging.DEBUG if self._complained else logging.WARNING
        logger.log(level, "%s: %s", text, exc)
        self._complained = True

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _record(sample_id: int, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(_LENGTH.pack(sample_id, len(data))))
    return _HEADER.pack(sample_id, len(data), check) + data


def _records(path: Path) -> Iterator[Kept]:
    """Give a segment's records, up to one that is torn or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    place = 0
    while place + _HEADER.size <= len(data):
        sample_id, length, check = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        payload = data[place : place + length]
        known = zlib.crc32(payload, zlib.crc32(_LENGTH.pack(sample_id, length)))
        if len(payload) != length or known != check:
            return
        yield Kept(sample_id, payload)
        place += length


def _last_id(records: Iterator[Kept]) -> int:
    """Give the id of the last of some records; 0 if there is none."""
    return max((one.id for one in records), default=0)


def _segments(folder: Path) -> Iterator[_Segment]:
    for path in folder.glob(f"*{SUFFIX}"):
        if path.stem.isdecimal():
            yield _Segment(int(path.stem), path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
