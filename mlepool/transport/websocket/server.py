"""The accepting end: drives the library's Sans-I/O protocol itself.

It must look at the first byte of a stranger before TLS (:mod:`mlepool.transport.tcp`).
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from mlepool.transport.base import Accept, LinkInfo
from mlepool.transport.tcp import Entrant, TcpAcceptor, name_of, open_listeners
from mlepool.transport.websocket.end import WebSocketEnd
from mlepool.transport.websocket.link import (
    MAX_FRAME,
    apply_mask,
    library_logger,
)

__all__ = [
    "NOT_A_PAGE",
    "Answer",
    "Inquiry",
    "Page",
    "WebSocketAcceptor",
    "listen_websocket",
]

logger = logging.getLogger("mlepool.worker")

NOT_A_PAGE = "This is an mlepool worker, not a web page: use mlepool to connect.\n"


class Inquiry(NamedTuple):
    """A plain HTTP request, GET as a rule, that wants no link.

    Attributes:
        path: What it asks for.
        authorization: Its header of that name; empty for none.
        address: Where it comes from.
        is_private: True if TLS is around it.
    """

    path: str
    authorization: str
    address: str
    is_private: bool


class Page(NamedTuple):
    """An answer to a plain HTTP request.

    Attributes:
        status: The HTTP status.
        text: The body.
        headers: Set besides those that say its length and that this is the end.
    """

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


# Answers a plain HTTP request; None to turn it away as one that is no link.
Answer = Callable[[Inquiry], Awaitable[Page] | None]


def _no_pages(inquiry: Inquiry) -> None:
    """Turn all plain HTTP requests away."""


class _ServerEnd(WebSocketEnd, Entrant):
    """The accepting end."""

    def __init__(
        self, accept: Accept, channel: bytes, *, answer: Answer, is_private: bool
    ) -> None:
        protocol = ServerProtocol(max_size=MAX_FRAME, logger=library_logger)
        WebSocketEnd.__init__(self, protocol, unmask=apply_mask)
        Entrant.__init__(self)
        self._protocol = protocol
        self._answer = answer
        self._is_private = is_private
        self._answering: asyncio.Task[None] | None = None
        self._accept = accept
        self._channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self.link.began(transport)
        address = name_of(transport.get_extra_info("peername"))
        self.link.info = LinkInfo(address, self._channel)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        if self._answering is not None:
            self._answering.cancel()
        self._protocol.receive_eof()
        self.decide()
        self.link.ended(exc)

    def abort(self) -> None:
        """Give up: the handshake takes too long."""
        self.link.transport.abort()

    def react(self) -> None:
        """Act on what the library has made of what it was given."""
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            else:
                self.link.take(event)
        if self._answering is not None:
            return  # whatever came behind the request: the page is sent first
        failure = self._protocol.handshake_exc
        if failure is not None and not self.decided.done():
            self.decide()
            logger.warning("refused %s: %s", self.link.info.address, failure)
        self.link.write()

    def _shake_hands(self, request: Request) -> None:
        if "Origin" in request.headers:
            # A page in a browser must not talk to a worker, not even with a token.
            text = "Browsers may not open links to a worker.\n"
            self._reject(http.HTTPStatus.FORBIDDEN, text, cause="a browser's Origin")
            return
        if "Upgrade" not in request.headers and self._begin_page(request):
            return
        response = self._protocol.accept(request)
        if self._protocol.handshake_exc is not None:
            self._reject(response.status_code, NOT_A_PAGE, cause="a plain HTTP request")
            return
        self._protocol.send_response(response)
        self.decide()
        self._accept(self.link)  # what it says first leaves with the response

    def _begin_page(self, request: Request) -> bool:
        """Answer a plain HTTP request; False if nobody here wants to."""
        inquiry = Inquiry(
            request.path,
            request.headers.get("Authorization", ""),
            self.link.info.address,
            self._is_private,
        )
        work = self._answer(inquiry)
        if work is not None:
            loop = asyncio.get_running_loop()
            self._answering = loop.create_task(self._give_page(work))
        return work is not None

    async def _give_page(self, work: Awaitable[Page]) -> None:
        try:
            page = await work
        except Exception:
            # The top of a task: who asked is told that much.
            logger.exception("a page could not be made")
            page = Page(http.HTTPStatus.INTERNAL_SERVER_ERROR, "It went wrong.\n")
        self.decide()
        response = self._protocol.reject(page.status, page.text)
        for name, value in page.headers:
            response.headers.pop(name, None)
            response.headers[name] = value
        self._send(response)
        self._answering = None
        self.link.write()

    def _reject(self, status: int, text: str, *, cause: str) -> None:
        self.decide()
        self._send(self._protocol.reject(status, text))
        logger.warning("refused %s: %s", self.link.info.address, cause)

    def _send(self, response: Response) -> None:
        if self._protocol.eof_sent:
            # More came with the request, and the library has ended the stream.
            self.link.transport.write(response.serialize())
        else:
            self._protocol.send_response(response)


class WebSocketAcceptor(TcpAcceptor):
    """Listens on a TCP port, with TLS or without.

    Args:
        listeners: The listening sockets.
        accept: Called with each link after its WebSocket handshake.
        tls: The TLS settings; None for plain.
        channel: Fingerprint of the certificate in ``tls``.
        answer: Answers plain HTTP requests.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        accept: Accept,
        *,
        tls: ssl.SSLContext | None,
        channel: bytes,
        answer: Answer = _no_pages,
    ) -> None:
        def make_end() -> _ServerEnd:
            is_private = tls is not None
            return _ServerEnd(accept, channel, answer=answer, is_private=is_private)

        super().__init__(listeners, make_end, tls=tls)


async def listen_websocket(
    host: str,
    port: int,
    accept: Accept,
    *,
    tls: ssl.SSLContext | None = None,
    channel: bytes = b"",
    answer: Answer = _no_pages,
) -> WebSocketAcceptor:
    """Listen on a TCP port.

    Args:
        host: An address or name; empty for every interface.
        port: 0 lets the system choose; :attr:`WebSocketAcceptor.port` says which.
        accept: Called with each link.
        tls: The TLS settings; None for plain.
        channel: Fingerprint of the certificate in ``tls``.
        answer: Answers plain HTTP requests; by default they are turned away.

    Raises:
        LinkError: If the port is taken or may not be used.
    """
    listeners = await open_listeners(host, port)
    return WebSocketAcceptor(listeners, accept, tls=tls, channel=channel, answer=answer)
