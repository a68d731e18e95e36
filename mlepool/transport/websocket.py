"""Links over WebSocket (RFC 6455), by the websockets library; TLS, proxies.

Both ends deliver frames by callback. The worker's end drives the library's Sans-I/O
protocol itself, since it must look at the first byte of a stranger before TLS (see
:mod:`mlepool.transport.tcp`); the client's end uses the library's connect(), for its
proxies, and takes the frames before they reach the library's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http
import logging
import socket
import ssl
import struct
import urllib.parse
import urllib.request
from typing import Any, Literal, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidState,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from mlepool.errors import LinkError
from mlepool.transport.base import Accept, LinkInfo, Piece, Receiver
from mlepool.transport.causes import link_error
from mlepool.transport.splitter import Splitter
from mlepool.transport.tcp import Entrant, TcpAcceptor, name_of, open_listeners

__all__ = ["WebSocketAcceptor", "dial_websocket", "listen_websocket"]

logger = logging.getLogger("mlepool.worker")
library_logger = logging.getLogger("mlepool.websockets")
library_logger.setLevel(logging.ERROR)  # opening and closing are ours to log

MAX_FRAME = 1024 * 1024  # bytes; the library closes with code 1009 above it
WRITE_HIGH = 256 * 1024  # bytes that may wait before bulk has to: control is behind it
CLOSE_LIMIT = 5.0  # seconds that what was sent may take to leave after close()
MAX_SHORT = 65535  # bytes; the size of a longer frame takes 64 bits
BINARY_FRAME = 0x82  # the last part of a binary message
LENGTH_IN_64_BITS = 127
_HEADER = struct.Struct(">BBQ")
CONTROL = (Opcode.PING, Opcode.PONG, Opcode.CLOSE)

NOT_A_PAGE = "This is an mlepool worker, not a web page: use mlepool to connect.\n"


class WebSocketLink:
    """A link: frames out of the library's events, frames into its protocol.

    Args:
        protocol: The library's Sans-I/O protocol of this end.
    """

    transport: asyncio.Transport

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.protocol = protocol
        self.info = LinkInfo()
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
        """Send a frame."""
        if self._lost is not None:
            return
        try:
            self.protocol.send_binary(frame)
        except InvalidState:
            return  # the closing handshake has begun: link_lost comes
        self.write()

    def send_file(self, head: bytes, piece: Piece) -> None:
        """Send a frame whose second part is in a file.

        The library would copy a large one three times; a server's frame is its own
        bytes behind a header (RFC 6455, section 5.2), which is written here.
        """
        size = len(head) + piece.size
        is_large = size > MAX_SHORT and isinstance(self.protocol, ServerProtocol)
        if not is_large or self.protocol.state is not State.OPEN or self._fault:
            self.send(bytes(piece.read_behind(head)))
        elif self._lost is None:
            frame = piece.read_behind(head, room=_HEADER.size)
            _HEADER.pack_into(frame, 0, BINARY_FRAME, LENGTH_IN_64_BITS, size)
            self.transport.write(frame)

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

    def take_large(self, frame: bytes | memoryview) -> None:
        """Take a large frame that went past the library."""
        if not self._fault and self.protocol.state is State.OPEN:
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
        for data in self.protocol.data_to_send():
            if data:
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


class _ClientEnd(ClientConnection):
    """The dialling end: the library's connection, its queue left out."""

    def __init__(self, protocol: ClientProtocol, **options: object) -> None:
        super().__init__(protocol, ping_interval=None)
        self.link = WebSocketLink(protocol)
        self._splitter = Splitter(limit=MAX_FRAME)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        super().connection_made(transport)
        self.link.began(transport)

    def process_event(self, event: Event) -> None:
        """Take an event (websockets)."""
        if self.response is None:
            super().process_event(event)
        else:
            self.link.take(event)

    def data_received(self, data: bytes) -> None:
        """Take bytes (asyncio)."""
        self.link.heard()
        for is_frame, part in self._splitter.feed(data):
            if is_frame:
                self.link.take_large(part)
            else:
                super().data_received(bytes(part))
        self.link.write()

    def eof_received(self) -> None:
        """Take the end of the other side's bytes (asyncio)."""
        super().eof_received()
        self.link.write()

    def pause_writing(self) -> None:
        """Note that the buffer is full (asyncio)."""
        super().pause_writing()
        self.link.waits(full=True)

    def resume_writing(self) -> None:
        """Note that the buffer is low again (asyncio)."""
        super().resume_writing()
        self.link.waits(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        super().connection_lost(exc)
        self.link.ended(exc)


class _ServerEnd(Entrant):
    """The accepting end: the library's Sans-I/O protocol on a transport of ours."""

    def __init__(self, accept: Accept, channel: bytes) -> None:
        super().__init__()
        self._protocol = ServerProtocol(max_size=MAX_FRAME, logger=library_logger)
        self._link = WebSocketLink(self._protocol)
        self._accept = accept
        self._channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self._link.began(transport)
        address = name_of(transport.get_extra_info("peername"))
        self._link.info = LinkInfo(address, self._channel)

    def data_received(self, data: bytes) -> None:
        """Take bytes (asyncio)."""
        self._link.heard()
        self._protocol.receive_data(data)
        self._react()

    def eof_received(self) -> None:
        """Take the end of the other side's bytes (asyncio)."""
        self._protocol.receive_eof()
        self._react()

    def pause_writing(self) -> None:
        """Note that the buffer is full (asyncio)."""
        self._link.waits(full=True)

    def resume_writing(self) -> None:
        """Note that the buffer is low again (asyncio)."""
        self._link.waits(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._protocol.receive_eof()
        self.decide()
        self._link.ended(exc)

    def abort(self) -> None:
        """Give up: the handshake takes too long."""
        self._link.transport.abort()

    def _react(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            else:
                self._link.take(event)
        failure = self._protocol.handshake_exc
        if failure is not None and not self.decided.done():
            self.decide()
            logger.warning("refused %s: %s", self._link.info.address, failure)
        self._link.write()

    def _shake_hands(self, request: Request) -> None:
        if "Origin" in request.headers:
            # A page in a browser must not talk to a worker, not even with a token.
            text = "Browsers may not open links to a worker.\n"
            self._reject(http.HTTPStatus.FORBIDDEN, text, cause="a browser's Origin")
            return
        response = self._protocol.accept(request)
        if self._protocol.handshake_exc is not None:
            self._reject(response.status_code, NOT_A_PAGE, cause="a plain HTTP request")
            return
        self._protocol.send_response(response)
        self._link.write()
        self.decide()
        self._accept(self._link)

    def _reject(self, status: int, text: str, *, cause: str) -> None:
        self.decide()
        response = self._protocol.reject(status, text)
        if self._protocol.eof_sent:
            # More came with the request, and the library has ended the stream.
            self._link.transport.write(response.serialize())
        else:
            self._protocol.send_response(response)
        logger.warning("refused %s: %s", self._link.info.address, cause)


class WebSocketAcceptor(TcpAcceptor):
    """Listens on a TCP port, with TLS or without.

    Args:
        listeners: The listening sockets.
        accept: Called with each link after its WebSocket handshake.
        tls: The TLS settings; None for plain.
        channel: Fingerprint of the certificate in ``tls``.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        accept: Accept,
        *,
        tls: ssl.SSLContext | None,
        channel: bytes,
    ) -> None:
        super().__init__(listeners, lambda: _ServerEnd(accept, channel), tls=tls)


async def listen_websocket(
    host: str,
    port: int,
    accept: Accept,
    *,
    tls: ssl.SSLContext | None = None,
    channel: bytes = b"",
) -> WebSocketAcceptor:
    """Listen on a TCP port.

    Args:
        host: An address or name; empty for every interface.
        port: 0 lets the system choose; :attr:`WebSocketAcceptor.port` says which.
        accept: Called with each link.
        tls: The TLS settings; None for plain.
        channel: Fingerprint of the certificate in ``tls``.

    Raises:
        LinkError: If the port is taken or may not be used.
    """
    listeners = await open_listeners(host, port)
    return WebSocketAcceptor(listeners, accept, tls=tls, channel=channel)


async def dial_websocket(
    url: str, *, proxy: str | None = None, direct: bool = False
) -> WebSocketLink:
    """Connect to a worker's port.

    The worker's certificate is not judged here: its fingerprint is in
    ``link.info.channel``, and nothing secret is sent before the caller has judged it.

    Args:
        url: ``wss://host:port`` or ``ws://host:port``.
        proxy: URL of an HTTP or SOCKS proxy; None takes the system's settings.
        direct: True uses no proxy at all.

    Raises:
        LinkError: If it can't be reached or does not speak the protocol.
    """
    try:
        end = await _connect(url, None if direct else proxy or True)
    except InvalidProxy as exc:
        # Not the whole text, and no cause: the URL may have a password in it.
        raise LinkError("other", f"the proxy's URL is wrong: {exc.msg}") from None
    except OSError as exc:
        error = link_error(exc)
        if not direct and _goes_through_proxy(url, proxy):
            cause = error.cause.partition(";")[0]
            error = LinkError(error.kind, f"{cause} (by way of a proxy)")
        raise error from exc
    except ValueError:
        cause = "the address or the proxy's URL is not usable"
        raise LinkError("unknown host", cause) from None
    except (WebSocketException, EOFError) as exc:
        raise _handshake_error(exc) from exc
    end.link.info = _info_of(end.link.transport)
    return end.link


async def _connect(url: str, proxy: str | Literal[True] | None) -> _ClientEnd:
    secure = url.startswith("wss://")
    options: dict[str, Any] = {"ssl": _client_tls()} if secure else {}
    end = await connect(
        url,
        compression=None,
        proxy=proxy,
        create_connection=_ClientEnd,
        user_agent_header="mlepool",
        open_timeout=None,
        max_size=MAX_FRAME,
        logger=library_logger,
        **options,
    )
    assert isinstance(end, _ClientEnd)
    return end


def _info_of(transport: asyncio.Transport) -> LinkInfo:
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else b""
    channel = hashlib.sha256(certificate).digest() if certificate else b""
    return LinkInfo(name_of(transport.get_extra_info("peername")), channel)


def _client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # trust goes by the key, not by a name or authority
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _goes_through_proxy(url: str, proxy: str | None) -> bool:
    if proxy is not None:
        return True
    place = urllib.parse.urlsplit(url).netloc
    found = {"ws", "wss", "socks", "http", "https"} & set(urllib.request.getproxies())
    return bool(found) and not urllib.request.proxy_bypass(place)


def _handshake_error(exc: Exception) -> LinkError:
    """Say in our words what the library met."""
    if isinstance(exc, InvalidStatus):
        body = (exc.response.body or b"").decode("utf-8", "replace").strip()
        line = body.splitlines()[0][:200] if body else ""
        text = "".join(filter(str.isprintable, line))  # it may go to a terminal
        cause = f"HTTP {exc.response.status_code}: {text or 'not an mlepool worker'}"
        return LinkError("http", cause)
    if isinstance(exc, ProxyError):
        # Of a SOCKS proxy, what went wrong is in the cause.
        return LinkError("http", f"the proxy failed: {exc.__cause__ or exc}")
    if isinstance(exc, InvalidMessage | ConnectionClosed | EOFError):
        cause = "the other side does not answer as an mlepool worker does"
        return LinkError("http", cause)
    return LinkError("http", str(exc))
