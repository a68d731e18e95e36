"""A link out of the library's protocol: frames in and out, at either end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from mlepool.transport.base import LinkInfo, Piece, Receiver
from mlepool.transport.scratch import keep_memory

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which it is not compiled
    from websockets.utils import apply_mask

__all__ = ["MAX_FRAME", "WebSocketLink", "apply_mask", "library_logger"]

library_logger = logging.getLogger("mlepool.websockets")
library_logger.setLevel(logging.ERROR)  # opening and closing are ours to log

MAX_FRAME = 1024 * 1024  # bytes; the library closes with code 1009 above it
WRITE_HIGH = 256 * 1024  # bytes that may wait before bulk has to: control is behind it
CLOSE_LIMIT = 5.0  # seconds that what was sent may take to leave after close()
BINARY_FRAME = 0x82  # the last part of a binary message
MASKED = 0x80
# Bytes of a large frame that are read, or masked, at once: TLS copies them twice. It is
# a multiple of four, as masks are repeated.
PART = 112 * 1024
_HEAD = struct.Struct(">BB")
_HEAD_16 = struct.Struct(">BBH")
_HEAD_64 = struct.Struct(">BBQ")
CONTROL = (Opcode.PING, Opcode.PONG, Opcode.CLOSE)


class WebSocketLink:
    """A link: frames out of the library's events, frames into its protocol.

    Args:
        protocol: The library's Sans-I/O protocol of this end.
    """

    transport: asyncio.Transport

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.protocol = protocol
        self.info = LinkInfo()
        self._masks = isinstance(protocol, ClientProtocol)
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._full = False
        self._fault = ""
        self._lost: str | None = None
        self._ending: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """True while bulk should wait."""
        return self._full

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver."""
        self._receiver = receiver
        early, self._early = self._early, []
        for frame in early:
            receiver.frame_received(frame)
        if self._lost is not None:
            receiver.link_lost(self._lost)

    def send(self, frame: bytes) -> None:
        """Send a frame.

        The library would copy it three times, and take longer for a small one than
        all else does: a binary frame is its own bytes behind a header (RFC 6455,
        section 5.2), which is written here.
        """
        if not self._is_open():
            return
        if self._masks and len(frame) > PART:
            self._send_masked(memoryview(frame))
            return
        parts = self.protocol.data_to_send()  # the handshake's end, as a rule nothing
        parts.append(_head(len(frame), masked=self._masks))
        if self._masks:
            mask = os.urandom(4)
            parts += (mask, apply_mask(frame, mask))
        else:
            parts.append(frame)
        self.transport.write(b"".join(parts))

    def _send_masked(self, frame: memoryview) -> None:
        """Send a large frame part by part: one copy of a whole one is costly memory."""
        keep_memory()
        mask = os.urandom(4)
        parts = self.protocol.data_to_send()
        parts += (_head(len(frame), masked=True), mask)
        for at in range(0, len(frame), PART):
            parts.append(apply_mask(frame[at : at + PART], mask))
            self.transport.write(b"".join(parts))
            parts = []

    def send_file(self, head: bytes, piece: Piece) -> None:
        """Send a frame whose second part is in a file."""
        if self._masks:
            self.send(bytes(piece.read_behind(head)))
        elif self._is_open():
            head = _head(len(head) + piece.size, masked=False) + head
            self._send_parts(head, piece)

    def _is_open(self) -> bool:
        return self._lost is None and self.protocol.state is State.OPEN

    def _send_parts(self, head: bytes, piece: Piece) -> None:
        for at in range(0, max(piece.size, 1), PART):
            part = Piece(piece.fd, piece.offset + at, min(PART, piece.size - at))
            try:
                self.transport.write(part.read_behind(head if at == 0 else b""))
            except EOFError:
                if at:
                    self.transport.abort()
                raise

    def close(self) -> None:
        """Close after what was sent is on its way."""
        if self._lost is None:
            with contextlib.suppress(InvalidState):  # the other side was first
                self.protocol.send_close(1000)
            self.write()

    def began(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports are none of asyncio's classes, but work as they do.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)

    def take(self, event: Event) -> None:
        """Take one event after the handshake."""
        if self._fault or not isinstance(event, Frame) or event.opcode in CONTROL:
            return
        if event.opcode is Opcode.TEXT:
            self._fault = "text frames are not part of this protocol"
            self.protocol.fail(1003, self._fault)
            self.write()
        elif event.fin and event.opcode is Opcode.BINARY:
            self._hand_out(bytes(event.data))
        else:
            self._join(event)

    def take_frame(self, frame: bytes | memoryview) -> None:
        """Take a binary frame that went past the library."""
        if self.protocol.state is State.OPEN:  # nothing that follows a Close counts
            self._hand_out(frame)

    def _join(self, part: Frame) -> None:
        if part.data:  # empty parts cost nothing: the library counts bytes, not parts
            self._parts.append(bytes(part.data))
        if part.fin:
            parts, self._parts = self._parts, []
            self._hand_out(b"".join(parts))

    def _hand_out(self, data: bytes | memoryview) -> None:
        if self._receiver is None:
            self._early.append(bytes(data))
        else:
            self._receiver.frame_received(data)

    def heard(self) -> None:
        """Note that bytes came."""
        if self._receiver is not None:
            self._receiver.bytes_received()

    def ended(self, exc: Exception | None) -> None:
        """Note the transport's end."""
        if self._ending is not None:
            self._ending.cancel()
        self._lost = self._cause(exc)
        if self._receiver is not None:
            self._receiver.link_lost(self._lost)

    def waits(self, *, full: bool) -> None:
        """Note if the transport's buffer is full."""
        self._full = full
        if not full and self._receiver is not None:
            self._receiver.writable()

    def write(self) -> None:
        """Hand what the protocol wants to send to the transport; end it if due.

        A client that follows the RFC waits for the server to close TCP: too long if
        that one is what is broken. Nothing said after a Close counts, so both close.
        """
        if data := b"".join(self.protocol.data_to_send()):
            self.transport.write(data)
        ended = self.protocol.state in (State.CLOSING, State.CLOSED)
        if ended or self.protocol.eof_sent:
            self._end()

    def _end(self) -> None:
        if self._ending is None:
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(CLOSE_LIMIT, self.transport.abort)
            self.transport.close()

    def _cause(self, exc: Exception | None) -> str:
        fault = self._fault or self.protocol.parser_exc
        if fault and not isinstance(fault, EOFError):
            return f"the other side broke the WebSocket protocol: {fault}"
        if exc is not None:
            return str(exc) or type(exc).__name__
        return "the other side closed the link"


def _head(size: int, *, masked: bool) -> bytes:
    """Make the header of a binary frame, but for its mask."""
    mask = MASKED if masked else 0
    if size < 126:
        return _HEAD.pack(BINARY_FRAME, mask | size)
    if size < 1 << 16:
        return _HEAD_16.pack(BINARY_FRAME, mask | 126, size)
    return _HEAD_64.pack(BINARY_FRAME, mask | 127, size)
