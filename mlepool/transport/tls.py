"""TLS on a connection, by the ssl module's half without I/O.

asyncio's own keeps 256 KiB for each connection, whether it is busy or not; this keeps
what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from collections.abc import Iterable
from typing import Any, cast

from mlepool.transport.scratch import SCRATCH_SIZE, scratch

__all__ = ["TlsEnd"]

RECORD = 16 * 1024  # bytes; no TLS record holds more (RFC 8446, section 5.1)
BULK = 256 * 1024  # bytes that are read at once while much comes


class TlsEnd(asyncio.BufferedProtocol):
    """An asyncio protocol that puts TLS below another one.

    The other protocol is begun once the handshake is done, with a transport that
    encrypts. A connection that the other side ends without a TLS farewell has ended
    all the same: the protocols above say goodbye themselves.

    Args:
        protocol: What stands above.
        context: The TLS settings.
        server_side: True for the accepting end.
        server_hostname: The name to ask for, at the dialling end.
    """

    def __init__(
        self,
        protocol: asyncio.BufferedProtocol,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._protocol = protocol
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname
        )
        loop = asyncio.get_running_loop()
        self._secured: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport
        self._upper: _TlsTransport | None = None
        self._buffer: memoryview | None = None  # kept while much comes
        self._has_ended = False
        self._is_lost = False
        self._error: Exception | None = None

    async def secured(self) -> None:
        """Wait for the end of the handshake; cancelled, it is given up.

        Raises:
            ssl.SSLError: If it has failed.
            ConnectionError: If the connection has ended in it.
        """
        try:
            await self._secured
        except BaseException:
            self.abort()
            raise

    def certificate(self) -> bytes:
        """Give what the other side has shown, after the handshake; DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        # uvloop's transports are none of asyncio's classes, but work as they do.
        self._transport = cast(asyncio.Transport, transport)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go (asyncio)."""
        if self._buffer is None:
            self._buffer = scratch()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes (asyncio)."""
        assert self._buffer is not None
        self._incoming.write(self._buffer[:nbytes])
        if nbytes < SCRATCH_SIZE:
            self._buffer = None
        elif len(self._buffer) == SCRATCH_SIZE:
            self._buffer = memoryview(bytearray(BULK))
        if self._upper is None:
            self._shake_hands()
        if self._upper is not None:
            self._hand_up(self._upper)

    def eof_received(self) -> None:
        """Take the end of the other side's bytes (asyncio)."""
        if self._upper is not None and not self._has_ended:
            self._has_ended = True
            self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on (asyncio)."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on (asyncio)."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._is_lost = True
        exc = self._error or exc
        if self._upper is not None:
            self._protocol.connection_lost(exc)
        elif not self._secured.done():
            number = errno.ECONNRESET
            self._refuse(exc or ConnectionResetError(number, os.strerror(number)))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if len(data) <= RECORD:
            self._tls.write(data)
            self._transport.write(self._outgoing.read())
            return
        view, parts = memoryview(data), []
        for at in range(0, len(view), RECORD):
            self._tls.write(view[at : at + RECORD])
            parts.append(self._outgoing.read())
        self._transport.writelines(parts)

    def close(self) -> None:
        """Say goodbye, and close after what was sent is on its way."""
        with contextlib.suppress(ssl.SSLError):  # the other side has not answered
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; twice is fine."""
        if not self._is_lost:  # asyncio's transport knows nothing to abort then
            self._transport.abort()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        self._flush()
        self._upper = _TlsTransport(self, self._transport)
        if not self._secured.done():
            self._secured.set_result(None)
        self._protocol.connection_made(self._upper)

    def _hand_up(self, upper: _TlsTransport) -> None:
        """Hand what has come to the protocol above."""
        try:
            self._fill()
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        self._flush()  # TLS itself may have something to say, such as a new key
        if self._has_ended and not upper.is_closing():
            self._protocol.eof_received()
            upper.close()

    def _fill(self) -> None:
        """Decrypt to where the protocol above wants it, room by room."""
        while not self._transport.is_closing():
            room = memoryview(self._protocol.get_buffer(-1))
            filled = self._read_into(room)
            if filled:
                self._protocol.buffer_updated(filled)
            if filled < len(room):
                return  # there is no more

    def _read_into(self, room: memoryview) -> int:
        """Decrypt the records that are whole, as far as there is room."""
        filled, size, tls = 0, len(room), self._tls
        try:
            while filled < size and (self._incoming.pending or tls.pending()):
                count = cast(int, tls.read(size - filled, room[filled:]))
                if not count:
                    self._has_ended = True
                    break
                filled += count
        except ssl.SSLWantReadError:  # a part of a record is there
            return filled
        return filled

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _fail(self, exc: ssl.SSLError) -> None:
        self._flush()  # an alert: the other side is told why
        self._error = exc
        if not self._secured.done():
            self._refuse(exc)
        self.abort()

    def _refuse(self, exc: Exception) -> None:
        self._secured.set_exception(exc)
        self._secured.exception()  # who was to wait for it may have been cancelled


class _TlsTransport(asyncio.Transport):
    """What the protocol above writes to."""

    def __init__(self, end: TlsEnd, transport: asyncio.Transport) -> None:
        super().__init__()
        self._end = end
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():
            self._end.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._transport.is_closing():
            self._end.close()

    def abort(self) -> None:
        self._end.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._transport.set_write_buffer_limits(high, low)
