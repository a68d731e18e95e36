"""What a command of the worker's own yields: values and progress, as bytes of a job.

They are the job's records of the stream :data:`~mlepool.wire.records.YIELDED`. A
message is a MessagePack array of kind and payload. It stands in one record or goes on
in the next ones, in pieces: 4 bytes (little-endian) that say how many bytes of the
message are to come, the highest bit set where it begins, and the bytes. So who comes
upon the middle of one, since what was before it was not kept, knows it and passes it
over. Lines that the command logs are records of stderr, between them.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.codec import NOT_DECODABLE, NOT_ENCODABLE, encode_other
from mlepool.wire.records import MAX_PAYLOAD

__all__ = ["PROGRESS", "VALUE", "YieldParser", "pack_yield"]

VALUE = 1  # a value, as it was yielded
PROGRESS = 2  # a mlepool.wire.values.Progress

MAX_YIELD = 16 * 1024 * 1024  # bytes; what is larger is a file
KINDS = frozenset({VALUE, PROGRESS})

_HEAD = struct.Struct("<I")
_BEGINS = 1 << 31
_ROOM = MAX_PAYLOAD - _HEAD.size

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_other)
_decoder = msgspec.msgpack.Decoder(tuple[int, Any])


def pack_yield(kind: int, payload: Any) -> list[bytes]:
    """Make the records' payloads of one message.

    Raises:
        LocalProtocolError: If it can't be data, or is too large.
    """
    try:
        data = _encoder.encode((kind, payload))
    except NOT_ENCODABLE as exc:
        raise LocalProtocolError(f"not a value that can be sent: {exc}") from exc
    size = len(data)
    if size > MAX_YIELD:
        raise LocalProtocolError(f"a value of {size} bytes, over {MAX_YIELD}")
    heads = [_BEGINS | size, *range(size - _ROOM, 0, -_ROOM)]
    pieces = (data[at : at + _ROOM] for at in range(0, size, _ROOM))
    return [_HEAD.pack(head) + piece for head, piece in zip(heads, pieces, strict=True)]


class YieldParser:
    """Takes the records' payloads, gives messages."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._left = 0

    @property
    def is_within(self) -> bool:
        """True while a message has begun that is not whole yet."""
        return self._left > 0

    def skip(self) -> None:
        """Forget a message that was cut: some of it was not kept."""
        self._pieces.clear()
        self._left = 0

    def feed(self, payload: bytes) -> Iterator[tuple[int, Any]]:
        """Give the messages that are whole with this record: kind and payload.

        Args:
            payload: One record's, as a whole.

        Raises:
            RemoteProtocolError: If they are none.
        """
        at = 0
        while at < len(payload):
            at, message = self._take(payload, at)
            if message:
                yield _message(message)

    def _take(self, payload: bytes, at: int) -> tuple[int, bytes]:
        """Take a piece.

        Returns:
            Where it ends, and the message, if it is whole now.
        """
        begin = at + _HEAD.size
        if begin >= len(payload):
            raise RemoteProtocolError("a yielded message is cut")
        (head,) = _HEAD.unpack_from(payload, at)
        left = head & ~_BEGINS
        if not 0 < left <= MAX_YIELD:
            raise RemoteProtocolError(f"a yielded message of {left} bytes")
        piece = payload[begin : begin + left]
        end = begin + len(piece)
        if head & _BEGINS:
            self.skip()
        elif left != self._left:
            self.skip()  # what it goes on with was not kept
            return end, b""
        self._pieces.append(piece)
        self._left = left - len(piece)
        if self._left:
            return end, b""
        message = b"".join(self._pieces)
        self._pieces.clear()
        return end, message


def _message(data: bytes) -> tuple[int, Any]:
    try:
        kind, payload = _decoder.decode(data)
    except NOT_DECODABLE as exc:
        raise RemoteProtocolError(f"a yielded message is wrong: {exc}") from exc
    if kind not in KINDS:
        raise RemoteProtocolError(f"a yielded message of the kind {kind}")
    return kind, payload
