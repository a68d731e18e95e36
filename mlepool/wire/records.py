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
from typing import NamedTuple

from mlepool.errors import RemoteProtocolError

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "STDERR",
    "STDOUT",
    "STREAM_NAMES",
    "Record",
    "RecordParser",
    "pack_header",
    "unpack_header",
]

STDOUT = 1
STDERR = 2
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}

MAGIC = 0x4D
MAX_PAYLOAD = 64 * 1024  # bytes of one record: one read of a pipe
_HEADER = struct.Struct("<BBHIQd")
HEADER_SIZE = _HEADER.size


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


def unpack_header(header: bytes) -> int | None:
    """Give the payload's length; None if this is no record's header."""
    if len(header) < HEADER_SIZE:
        return None
    magic, stream, _, length, _, _ = _HEADER.unpack(header)
    if magic != MAGIC or stream not in STREAM_NAMES or length > MAX_PAYLOAD:
        return None
    return int(length)


class RecordParser:
    """Takes journal bytes in pieces of any size; gives whole records.

    Checks what it reads: magic, stream, length, and that no stream's offsets go
    back. What is wrong is a :exc:`RemoteProtocolError`.

    Args:
        checked: False for a reader that starts in the middle of a stream: its first
            offsets are taken as they come.
    """

    def __init__(self, *, checked: bool = True) -> None:
        self._rest = b""
        self._offsets: dict[int, int | None] = {
            stream: 0 if checked else None for stream in STREAM_NAMES
        }

    @property
    def pending(self) -> int:
        """Bytes held back because their record is not whole yet."""
        return len(self._rest)

    def feed(self, piece: bytes | memoryview) -> list[Record]:
        """Give the records that are whole now."""
        buffer = self._rest + bytes(piece) if self._rest else piece
        at, end = 0, len(buffer)
        records = []
        while end - at >= HEADER_SIZE:
            magic, stream, _, length, offset, time = _HEADER.unpack_from(buffer, at)
            dropped = self._check(magic, stream, length=length, offset=offset)
            after = at + HEADER_SIZE + length
            if after > end:
                break
            data = bytes(buffer[at + HEADER_SIZE : after])
            self._offsets[stream] = offset + length
            at = after
            records.append(Record(time, stream, data, dropped))
        self._rest = bytes(buffer[at:])
        return records

    def _check(self, magic: int, stream: int, *, length: int, offset: int) -> int:
        if magic != MAGIC or stream not in STREAM_NAMES or length > MAX_PAYLOAD:
            raise RemoteProtocolError(
                f"bad journal record: magic {magic:#x}, stream {stream}, {length} bytes"
            )
        expected = self._offsets[stream]
        if expected is None:
            return 0
        if offset < expected:
            raise RemoteProtocolError(
                f"{STREAM_NAMES[stream]} goes back from {expected} to {offset}"
            )
        return offset - expected
