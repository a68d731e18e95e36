"""What a command of the worker's own yields: values and progress, as bytes of a job.

The job's records of the stream :data:`~mlepool.wire.records.YIELDED` hold one message
after the other: a length of 4 bytes (little-endian), and a MessagePack array of kind
and payload. A message may go on from one record to the next. Lines that the command
logs are records of stderr, between them.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.records import MAX_PAYLOAD

__all__ = ["PROGRESS", "VALUE", "YieldParser", "pack_yield"]

VALUE = 1  # a value, as it was yielded
PROGRESS = 2  # a mlepool.wire.values.Progress

_LENGTH = struct.Struct("<I")
MAX_YIELD = 16 * 1024 * 1024  # bytes; what is larger is a file
KINDS = frozenset({VALUE, PROGRESS})


def pack_yield(kind: int, payload: Any) -> list[bytes]:
    """Make the records' payloads of one message.

    Raises:
        LocalProtocolError: If it can't be data, or is too large.
    """
    try:
        data = msgspec.msgpack.encode((kind, payload))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise LocalProtocolError(f"not a value that can be sent: {exc}") from exc
    if len(data) > MAX_YIELD:
        raise LocalProtocolError(f"a value of {len(data)} bytes, over {MAX_YIELD}")
    data = _LENGTH.pack(len(data)) + data
    return [data[at : at + MAX_PAYLOAD] for at in range(0, len(data), MAX_PAYLOAD)]


class YieldParser:
    """Takes the records' payloads, gives messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def skip(self) -> None:
        """Forget a message that was cut: some of it was not kept."""
        self._data.clear()

    def feed(self, payload: bytes) -> Iterator[tuple[int, Any]]:
        """Give the messages that are whole now: kind and payload.

        Raises:
            RemoteProtocolError: If they are none.
        """
        self._data += payload
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > MAX_YIELD:
                raise RemoteProtocolError(f"a yielded message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            message = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            yield _message(message)


def _message(data: bytes) -> tuple[int, Any]:
    try:
        kind, payload = msgspec.msgpack.decode(data, type=tuple[int, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"a yielded message is wrong: {exc}") from exc
    if kind not in KINDS:
        raise RemoteProtocolError(f"a yielded message of the kind {kind}")
    return kind, payload
