"""The accepting end: drives the library's Sans-I/O protocol itself.

It must look at the first byte of a stranger before TLS (:mod:`mlepool.transport.tcp`).
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
import ssl

from websockets.http11 import Request
from websockets.server import ServerProtocol

from mlepool.transport.base import Accept, LinkInfo
from mlepool.transport.tcp import Entrant, TcpAcceptor, name_of, open_listeners
from mlepool.transport.websocket.link import MAX_FRAME, WebSocketLink, library_logger

__all__ = ["NOT_A_PAGE", "WebSocketAcceptor", "listen_websocket"]

logger = logging.getLogger("mlepool.worker")

NOT_A_PAGE = "This is an mlepool worker, not a web page: use mlepool to connect.\n"


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
