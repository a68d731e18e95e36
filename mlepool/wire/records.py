"""The journal's records: what a job wrote, when, and to which stream.

A job's journal is one run of records; the same bytes stand on the worker's disk,
travel in data frames and are taken apart by the client. A record is a header of 24
bytes and its payload::

    magic  stream  reserved  length  offset  time
    0x4d   u8      u16       u32     u64     f64      (little-endian)

``offset`` is the position of the payload in its own stream; ``time`` is when the
supervisor read it from the process, seconds since the epoch.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlepool.errors import RemoteProtocolError

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "MAX_RECORD",
    "STDERR",
    "STDOUT",
    "STREAM_NAMES",
    "YIELDED",
    "BadRecordError",
    "Record",
    "RecordHeader",
    "RecordParser",
    "pack_header",
    "parse_header",
    "unpack_header",
]

STDOUT = 1
STDERR = 2
YIELDED = 3  # what a command of the worker's own yields: mlepool.wire.yields
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr", YIELDED: "yielded"}

MAGIC = 0x4D
_HEADER = struct.Struct("<BBHIQd")
HEADER_SIZE = _HEADER.size
MAX_RECORD = 112 * 1024  # bytes: one data frame (mlepool.wire.codec.MAX_DATA)
MAX_PAYLOAD = MAX_RECORD - HEADER_SIZE  # one read of a pipe


class Record(NamedTuple):
    """One piece of output, as it was read from the process.

    Attributes:
        time: Seconds since the epoch.
        stream: :data:`STDOUT` or :data:`STDERR`.
        data: The bytes.
        dropped: Bytes of the stream before it that were not kept (a full disk).
    """

    time: float
    stream: int
    data: bytes
    dropped: int = 0


def pack_header(stream: int, length: int, offset: int, *, time: float) -> bytes:
    """Make a record's header."""
    return _HEADER.pack(MAGIC, stream, 0, length, offset, time)


class RecordHeader(NamedTuple):
    """What stands before a payload, in the order of :func:`pack_header`."""

    stream: int
    length: int
    offset: int
    time: float


def parse_header(header: bytes) -> RecordHeader | None:
    """Take a header apart; None if this is no record's header."""
    if len(header) < HEADER_SIZE:
        return None
    magic, stream, _, length, offset, time = _HEADER.unpack(header)
    if magic != MAGIC or stream not in STREAM_NAMES or length > MAX_PAYLOAD:
        return None
    return RecordHeader(stream, length, offset, time)


def unpack_header(header: bytes) -> int | None:
    """Give the payload's length; None if this is no record's header."""
    parsed = parse_header(header)
    return None if parsed is None else parsed.length


class BadRecordError(RemoteProtocolError):
    """What stands in a journal is no output of a job: nothing after it can be read.

    Attributes:
        records: Those before it that came with the same piece.
        left: How many bytes of what was fed, to its end, those are that can't be read.
    """

    def __init__(
        self, cause: str, *, records: Sequence[Record] = (), left: int = 0
    ) -> None:
        super().__init__(cause)
        self.records = list(records)
        self.left = left


class RecordParser:
    """Takes journal bytes in pieces of any size; gives whole records.

    Checks what it reads: magic, stream, length, and that no stream's offsets go
    back. What is wrong is a :exc:`BadRecordError`, and the end of it.

    Args:
        checked: False for a reader that starts in the middle of a stream: its first
            offsets are taken as they come.
    """

    def __init__(self, *, checked: bool = True) -> None:
        self._rest = b""
        self._offsets = dict.fromkeys(STREAM_NAMES, 0 if checked else None)

    @property
    def pending(self) -> int:
        """Bytes held back because their record is not whole yet."""
        return len(self._rest)

    def skip(self) -> None:
        """Forget a record that was cut: the rest of it will not come."""
        self._rest = b""

    def finish(self, ends: Mapping[int, int], *, time: float) -> list[Record]:
        """Say what is missing at the end, where no record follows to show it.

        Args:
            ends: How many bytes each stream has had.
            time: When they ended, seconds since the epoch.

        Returns:
            A record without bytes for each stream that has lost some.
        """
        records = []
        for stream, end in ends.items():
            offset = self._offsets[stream]
            if offset is not None and offset < end:
                self._offsets[stream] = end
                records.append(Record(time, stream, b"", end - offset))
        return records

    def feed(self, piece: bytes | memoryview) -> list[Record]:
        """Give the records that are whole now.

        Raises:
            BadRecordError: If something else comes than a record.
        """
        view = memoryview(piece)
        records: list[Record] = []
        there = len(self._rest) + len(view)
        try:
            if self._rest:
                view = self._complete(view, records)
            at = 0
            while (record := self._take(view, at)) is not None:
                records.append(record)
                at += HEADER_SIZE + len(record.data)
        except BadRecordError as exc:
            exc.records = records
            exc.left = there - sum(HEADER_SIZE + len(one.data) for one in records)
            raise
        if at < len(view):
            self._rest += view[at:]
        return records

    def _complete(self, view: memoryview, records: list[Record]) -> memoryview:
        """Fill up the record that was cut, and no more: the bulk is not copied twice.

        Returns:
            What is left of the piece.
        """
        for wanted in (self._missing_header, self._missing_payload):
            count = wanted()
            self._rest += view[:count]
            view = view[count:]
        record = self._take(memoryview(self._rest), 0)
        if record is not None:
            records.append(record)
            self._rest = b""
        return view

    def _missing_header(self) -> int:
        return max(0, HEADER_SIZE - len(self._rest))

    def _missing_payload(self) -> int:
        if len(self._rest) < HEADER_SIZE:
            return 0
        length: int = _HEADER.unpack_from(self._rest)[3]
        return max(0, HEADER_SIZE + min(length, MAX_PAYLOAD) - len(self._rest))

    def _take(self, view: memoryview, at: int) -> Record | None:
        begin = at + HEADER_SIZE
        if len(view) < begin:
            return None
        magic, stream, _, length, offset, time = _HEADER.unpack_from(view, at)
        if magic != MAGIC or stream not in STREAM_NAMES or length > MAX_PAYLOAD:
            raise BadRecordError(
                f"bad journal record: magic {magic:#x}, stream {stream}, {length} bytes"
            )
        expected = self._offsets[stream]
        if expected is None:
            expected = offset
        if offset < expected:
            raise BadRecordError(
                f"{STREAM_NAMES[stream]} goes back from {expected} to {offset}"
            )
        end = begin + length
        if len(view) < end:
            return None
        self._offsets[stream] = offset + length
        return Record(time, stream, bytes(view[begin:end]), offset - expected)
