"""Frames to messages and back; any bad bytes become RemoteProtocolError.

A frame is one of two things, told apart by its first byte:

* a data frame, first byte 0x01: header (kind, call, journal position) and then raw
  journal bytes, up to :data:`BULK_DATA` of them;
* a message: a MessagePack array, whose first byte is 0x90 to 0x9f or 0xdc, 0xdd.
"""

import contextlib
import os
import struct
from typing import NamedTuple

import msgspec

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.messages import Message

__all__ = [
    "BULK_DATA",
    "HEADER_SIZE",
    "MAX_DATA",
    "MAX_FRAME",
    "NOT_DECODABLE",
    "NOT_ENCODABLE",
    "Data",
    "decode",
    "encode",
    "encode_data",
    "encode_other",
    "sendable",
]

MAX_FRAME = 1024 * 1024  # bytes; bounds what one peer can make the other hold
MAX_DATA = 112 * 1024  # bytes; below glibc's 128 KiB mmap threshold, headers included
BULK_DATA = (
    4 * MAX_DATA
)  # of a stream that has room for it: a frame costs as much as that

DATA_KIND = 0x01
_HEADER = struct.Struct(">BIQ")  # kind, call, position
HEADER_SIZE = _HEADER.size

# ValueError is UnicodeEncodeError too; BufferError: a memoryview with gaps.
NOT_ENCODABLE = (
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    BufferError,
    NotImplementedError,
)

# TypeError: a map as a map's key, before msgspec 0.22.
NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


def encode_other(value: object) -> object:
    """Encode what MessagePack has no type for: paths go as text."""
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return sendable(path) if isinstance(path, str) else path
    raise NotImplementedError(f"{type(value).__name__} can't be sent")


def sendable(text: str) -> str | bytes:
    """Give text; a name that is no UTF-8, as os.fsdecode() has it, as its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeEncodeError):  # it can't be sent at all
            return text.encode(errors="surrogateescape")
    return text


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_other)
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Data(NamedTuple):
    """A piece of a job's journal.

    Attributes:
        call: The call that it answers.
        position: Journal position of its first byte.
        frame: The whole frame; the payload starts at ``HEADER_SIZE``. A view is valid
            only while the frame is being received.
    """

    call: int
    position: int
    frame: bytes | memoryview

    @property
    def payload(self) -> memoryview:
        """The journal bytes, not copied."""
        return memoryview(self.frame)[HEADER_SIZE:]


def encode(message: Message) -> bytes:
    """Make a frame of a message.

    Raises:
        LocalProtocolError: If it holds what can't be encoded, or is too large.
    """
    try:
        frame = _encoder.encode(message)
    except UnicodeEncodeError as exc:
        part = exc.object[max(exc.start - 40, 0) : exc.end + 40]
        text = f"{part!r} is no UTF-8; a path or argument may be bytes instead"
        raise LocalProtocolError(f"cannot send this: {text}") from exc
    except NOT_ENCODABLE as exc:
        raise LocalProtocolError(f"cannot send this: {exc}") from exc
    if len(frame) > MAX_FRAME:
        raise LocalProtocolError(
            f"a message of {len(frame)} bytes is over the limit of {MAX_FRAME}; "
            "send large data as files or input"
        )
    return frame


def encode_data(call: int, position: int, payload: bytes) -> bytes:
    """Make a data frame of journal bytes."""
    return _HEADER.pack(DATA_KIND, call, position) + payload


def decode(frame: bytes | memoryview) -> Message | Data:
    """Read one frame.

    A message holds nothing of a view that it came in; :class:`Data` does.

    Raises:
        RemoteProtocolError: For anything that is not a valid frame.
    """
    if len(frame) > MAX_FRAME:
        raise RemoteProtocolError(
            f"a frame of {len(frame)} bytes is over the limit of {MAX_FRAME}"
        )
    if frame[:1] == b"\x01":
        if len(frame) < HEADER_SIZE:
            raise RemoteProtocolError(f"a data frame of {len(frame)} bytes is cut")
        _, call, position = _HEADER.unpack_from(frame)
        return Data(call, position, frame)
    try:
        return _decoder.decode(bytes(frame))  # what is raw in it refers to this
    except NOT_DECODABLE as exc:
        raise RemoteProtocolError(f"not a message: {exc}") from exc
