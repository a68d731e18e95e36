"""Links over WebSocket (RFC 6455), by the websockets library; TLS, proxies.

Both ends deliver frames by callback. The worker's end drives the library's Sans-I/O
protocol itself, since it must look at the first byte of a stranger before TLS; the
client's end uses the library's connect(), for its proxies, and takes the frames before
they reach the library's queue.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http
import logging
import re
import socket
import ssl
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidState,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol

from mlepool.errors import LinkError
from mlepool.transport.base import Accept, Receiver

__all__ = ["WebSocketAcceptor", "dial_websocket", "listen_websocket"]

logger = logging.getLogger("mlepool.worker")
library_logger = logging.getLogger("mlepool.websockets")
library_logger.setLevel(
    logging.ERROR
)  # every link's opening and closing is ours to log

MAX_FRAME = 1024 * 1024  # bytes; the library closes with code 1009 above it
WRITE_HIGH = 256 * 1024  # bytes that may wait before bulk has to: control is behind it
HANDSHAKE_LIMIT = 10.0  # seconds for TLS and HTTP together
CLOSE_LIMIT = 5.0  # seconds that what was sent may take to leave after close()
MAX_STRANGERS = 128  # connections in handshake; more wait in the kernel's backlog
TLS_HANDSHAKE_BYTE = 0x16  # ContentType handshake, RFC 8446 section 5.1

NOT_A_PAGE = "This is an mlepool worker, not a web page: use mlepool to connect.\n"
SPEAKS_TLS = "This port speaks TLS only: use wss:// or no scheme at all.\n"
SPEAKS_PLAIN = "This port does not speak TLS: use ws://.\n"


@dataclass(frozen=True)
class _Info:
    address: str
    channel: bytes
    is_local: bool = False


class WebSocketLink:
    """A link: frames out of the library's events, frames into its protocol.

    Args:
        protocol: The library's Sans-I/O protocol of this end.
    """

    transport: asyncio.Transport

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.protocol = protocol
        self.info = _Info("", b"")
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._full = False
        self._lost: str | None = None

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

    def send_data(self, head: bytes, body: bytes) -> None:
        """Send a frame made of two parts."""
        self.send(head + body)

    def close(self) -> None:
        """Close after what was sent is on its way."""
        if self._lost is None and not self.transport.is_closing():
            try:
                self.protocol.send_close(1000)
            except InvalidState:
                pass  # the other side was first
            else:
                self.write()
            loop = asyncio.get_running_loop()
            self.transport.close()
            loop.call_later(CLOSE_LIMIT, self.transport.abort)

    def began(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.transport = transport

    def take(self, event: Event) -> None:
        """Take one event after the handshake."""
        if not isinstance(event, Frame) or event.opcode in (
            Opcode.PING,
            Opcode.PONG,
            Opcode.CLOSE,
        ):
            return
        if event.opcode is Opcode.TEXT:
            self.protocol.fail(1003, "text frames are not part of this protocol")
            self.write()
            return
        data = bytes(event.data)
        if self._parts or not event.fin:
            self._parts.append(data)
            if not event.fin:
                return
            data, self._parts = b"".join(self._parts), []
        if self._receiver is None:
            self._early.append(data)
        else:
            self._receiver.frame_received(data)

    def heard(self) -> None:
        """Note that bytes came."""
        if self._receiver is not None:
            self._receiver.bytes_received()

    def ended(self, exc: Exception | None) -> None:
        """Note the transport's end."""
        if self._lost is None:
            self._lost = str(exc) if exc else "the other side closed the link"
            if self._receiver is not None:
                self._receiver.link_lost(self._lost)

    def waits(self, *, full: bool) -> None:
        """Note if the transport's buffer is full."""
        self._full = full
        if not full and self._receiver is not None:
            self._receiver.writable()

    def write(self) -> None:
        """Hand what the protocol wants to send to the transport."""
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            elif not self.transport.is_closing():
                self.transport.close()  # the protocol's word for "done"


class _ClientEnd(ClientConnection):
    """The dialling end: the library's connection, its queue left out."""

    def __init__(self, protocol: ClientProtocol, **options: object) -> None:
        super().__init__(protocol, ping_interval=None)
        self.link = WebSocketLink(protocol)

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
        super().data_received(data)

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


class _ServerEnd(asyncio.Protocol):
    """The accepting end: the library's Sans-I/O protocol on a transport of ours."""

    def __init__(self, accept: Accept, channel: bytes) -> None:
        self._protocol = ServerProtocol(max_size=MAX_FRAME, logger=library_logger)
        self._link = WebSocketLink(self._protocol)
        self._accept = accept
        self._channel = channel
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self._link.began(transport)
        address = _name(transport.get_extra_info("peername"))
        self._link.info = _Info(address, self._channel)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_LIMIT, self._link.transport.abort)

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
        self._decided()
        self._link.ended(exc)

    def _react(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            else:
                self._link.take(event)
        failure = self._protocol.handshake_exc
        if failure is not None and self._timer is not None:
            self._decided()
            logger.warning("refused %s: %s", self._link.info.address, failure)
        self._link.write()

    def _shake_hands(self, request: Request) -> None:
        if request.headers.get("Origin") is not None:
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
        self._decided()
        self._accept(self._link)

    def _reject(self, status: int, text: str, *, cause: str) -> None:
        self._decided()
        self._protocol.send_response(self._protocol.reject(status, text))
        logger.warning("refused %s: %s", self._link.info.address, cause)

    def _decided(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WebSocketAcceptor:
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
        self._listeners = listeners
        self._factory = lambda: _ServerEnd(accept, channel)
        self._tls = tls
        self._strangers = asyncio.Semaphore(MAX_STRANGERS)
        self._tasks = {asyncio.create_task(self._serve(one)) for one in listeners}
        self.address = _name(listeners[0].getsockname())
        self.port: int = listeners[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._strangers.acquire()
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as exc:
                self._strangers.release()
                logger.error("cannot accept a connection: %s", exc)
                await asyncio.sleep(1.0)  # out of descriptors: let some go first
                continue
            task = asyncio.create_task(self._open(sock, _name(address)))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._strangers.release()

    async def _open(self, sock: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                first = await _peek(sock)
                if not self._speaks(first):
                    await self._turn_away(sock, address)
                    return
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.connect_accepted_socket(self._factory, sock, ssl=self._tls)
        except (OSError, TimeoutError) as exc:
            # Port scanners and broken clients: one line, no traceback.
            logger.warning("refused %s: %s", address, _ssl_cause(exc))
            sock.close()
        except BaseException:
            sock.close()
            raise

    def _speaks(self, first: int | None) -> bool:
        if first is None:
            return False
        return (first == TLS_HANDSHAKE_BYTE) is (self._tls is not None)

    async def _turn_away(self, sock: socket.socket, address: str) -> None:
        text = SPEAKS_PLAIN if self._tls is None else SPEAKS_TLS
        cause = "a TLS client" if self._tls is None else "no TLS"
        logger.warning("refused %s: %s on this port", address, cause)
        loop = asyncio.get_running_loop()
        reply = (
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}"
        )
        try:
            await loop.sock_sendall(sock, reply.encode())
            sock.shutdown(socket.SHUT_WR)
            # What the other side has sent is read: closing before would reset the
            # link, and the reply would be lost with it.
            while await loop.sock_recv(sock, 65536):
                pass
        finally:
            sock.close()


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
    try:
        if host == "" and socket.has_dualstack_ipv6():
            options = {"family": socket.AF_INET6, "dualstack_ipv6": True}
            listeners = [socket.create_server(("::", port), **options, backlog=1024)]  # type: ignore[arg-type]
        else:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = found[0]
            listeners = [socket.create_server(address[:2], family=family, backlog=1024)]
    except OSError as exc:
        raise LinkError("other", f"cannot listen on {host}:{port}: {exc}") from exc
    for listener in listeners:
        listener.setblocking(False)
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
    secure = url.startswith("wss://")
    options: dict[str, ssl.SSLContext] = {"ssl": _client_tls()} if secure else {}
    try:
        end = await connect(
            url,
            compression=None,
            proxy=None if direct else proxy or True,
            create_connection=_ClientEnd,
            user_agent_header="mlepool",
            open_timeout=None,
            max_size=MAX_FRAME,
            logger=library_logger,
            **options,
        )
    except (OSError, InvalidHandshake, InvalidURI, InvalidProxy, EOFError) as exc:
        raise _link_error(exc) from exc
    assert isinstance(end, _ClientEnd)
    link = end.link
    tls = link.transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else b""
    channel = hashlib.sha256(certificate).digest() if certificate else b""
    link.info = _Info(_name(link.transport.get_extra_info("peername")), channel)
    return link


def _client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # trust goes by the key, not by a name or authority
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _link_error(exc: BaseException) -> LinkError:
    """Say in our words what the library or the system met."""
    if isinstance(exc, ssl.SSLError):
        return LinkError("tls", _ssl_cause(exc))
    if isinstance(exc, InvalidStatus):
        body = (exc.response.body or b"").decode("utf-8", "replace").strip()
        text = body.splitlines()[0][:200] if body else ""
        cause = f"HTTP {exc.response.status_code}: {text or 'not an mlepool worker'}"
        return LinkError("http", cause)
    if isinstance(exc, ProxyError | InvalidProxy):
        return LinkError("http", f"the proxy failed: {exc}")
    if isinstance(exc, InvalidMessage | EOFError):
        cause = "the other side does not answer as an mlepool worker does"
        return LinkError("http", cause)
    if isinstance(exc, OSError) and not isinstance(exc, InvalidHandshake):
        return _system_error(exc)
    return LinkError("http", str(exc))


def _system_error(exc: OSError) -> LinkError:
    if isinstance(exc, socket.gaierror):
        return LinkError("unknown host", f"unknown host ({exc.strerror})")
    number = exc.errno
    if number is None:
        # Several addresses failed: asyncio joins the texts and drops the numbers.
        found = re.search(r"\[Errno (\d+)\]", str(exc))
        number = int(found.group(1)) if found else 0
    if number == errno.ECONNREFUSED:
        return LinkError("refused", "connection refused; no worker listens there")
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        return LinkError("unreachable", "the address is unreachable")
    if number == errno.ETIMEDOUT:
        return LinkError("timeout", "timed out")
    if number == errno.ECONNRESET:
        return LinkError("other", "the other side reset the connection")
    return LinkError("other", str(exc) or type(exc).__name__)


def _ssl_cause(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError) and not exc.args:
        return f"no handshake within {HANDSHAKE_LIMIT:g} s"
    if not isinstance(exc, ssl.SSLError):
        return str(exc) or type(exc).__name__
    reason = (exc.reason or str(exc)).replace("_", " ").lower()
    if reason in ("wrong version number", "record layer failure", "http request"):
        return "the other side does not speak TLS"
    return f"the TLS handshake failed: {reason}"


async def _peek(sock: socket.socket) -> int | None:
    """Look at the first byte without taking it; None if there is none."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    return first[0] if first else None


def _name(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0]).removeprefix("::ffff:")
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return str(address or "unknown")
