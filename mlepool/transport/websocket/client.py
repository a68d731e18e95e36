"""The dialling end: drives the library's Sans-I/O protocol itself.

Its connect() would keep a queue for each link, and loads what only proxies need.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib
import os
import ssl
import sys

from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    WebSocketException,
)
from websockets.http11 import Response
from websockets.uri import WebSocketURI, parse_uri

from mlepool.errors import LinkError
from mlepool.transport.base import LinkInfo
from mlepool.transport.causes import link_error
from mlepool.transport.tcp import name_of
from mlepool.transport.tls import TlsEnd
from mlepool.transport.websocket.end import WebSocketEnd
from mlepool.transport.websocket.link import MAX_FRAME, WebSocketLink, library_logger

__all__ = ["dial_websocket"]

PROXIES = "mlepool.transport.websocket.proxies"  # loads much that few need


class _ClientEnd(WebSocketEnd):
    """The dialling end."""

    def __init__(self, uri: WebSocketURI) -> None:
        loop = asyncio.get_running_loop()
        protocol = ClientProtocol(uri, max_size=MAX_FRAME, logger=library_logger)
        super().__init__(protocol)
        self._protocol = protocol
        self._decided: asyncio.Future[None] = loop.create_future()

    async def opened(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            WebSocketException: If it has failed.
        """
        await self._decided
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self.link.began(transport)
        request = self._protocol.connect()
        request.headers["User-Agent"] = "mlepool"
        self._protocol.send_request(request)
        self.link.write()

    def react(self) -> None:
        """Act on what the library has made of what it was given."""
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._decide()
            else:
                self.link.take(event)
        if self._protocol.handshake_exc is not None:
            self._decide()
        self.link.write()

    def _decide(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._protocol.receive_eof()
        self._decide()
        self.link.ended(exc)


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
        uri = parse_uri(url)
        if direct:
            proxy = None
        elif proxy is None and _may_have_proxy():
            proxy = importlib.import_module(PROXIES).proxy_of_system(uri)
        return await _open(uri, proxy)
    except LinkError:
        raise  # which is an OSError: of the proxy
    except OSError as exc:
        error = link_error(exc)
        if proxy is not None:
            cause = error.cause.partition(";")[0]
            error = LinkError(error.kind, f"{cause} (by way of a proxy)")
        raise error from exc
    except ValueError:
        cause = "the address or the proxy's URL is not usable"
        raise LinkError("unknown host", cause) from None
    except (WebSocketException, EOFError) as exc:
        raise _handshake_error(exc) from exc


async def _open(uri: WebSocketURI, proxy: str | None) -> WebSocketLink:
    end = _ClientEnd(uri)
    below = TlsEnd(end, _client_tls(), server_hostname=uri.host) if uri.secure else None
    transport = await _connect(uri, proxy, below or end)
    try:
        if below is not None:
            await below.secured()
        await end.opened()
    except BaseException:
        transport.abort()
        raise
    certificate = below.certificate() if below is not None else b""
    channel = hashlib.sha256(certificate).digest() if certificate else b""
    end.link.info = LinkInfo(name_of(transport.get_extra_info("peername")), channel)
    return end.link


async def _connect(
    uri: WebSocketURI, proxy: str | None, end: asyncio.BufferedProtocol
) -> asyncio.Transport:
    if proxy is None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: end, uri.host, uri.port)
        return transport
    connect_by_proxy = importlib.import_module(PROXIES).connect_by_proxy
    way: asyncio.Transport = await connect_by_proxy(uri, proxy)
    way.set_protocol(end)
    end.connection_made(way)
    way.resume_reading()
    return way


@functools.cache
def _client_tls() -> ssl.SSLContext:
    # One for all: it knows nothing of any worker, and takes as long as a key exchange.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # trust goes by the key, not by a name or authority
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _may_have_proxy() -> bool:
    """Tell if the system may name a proxy; to find out which takes longer."""
    if sys.platform in ("darwin", "win32"):
        return True  # not in the environment alone
    return any(name[-6:].lower() == "_proxy" for name in os.environ)


def _handshake_error(exc: Exception) -> LinkError:
    """Say in our words what the library met."""
    if isinstance(exc, InvalidStatus):
        body = (exc.response.body or b"").decode("utf-8", "replace").strip()
        line = body.splitlines()[0][:200] if body else ""
        text = "".join(filter(str.isprintable, line))  # it may go to a terminal
        cause = f"HTTP {exc.response.status_code}: {text or 'not an mlepool worker'}"
        return LinkError("http", cause)
    if isinstance(exc, InvalidMessage | ConnectionClosed | EOFError):
        cause = "the other side does not answer as an mlepool worker does"
        return LinkError("http", cause)
    return LinkError("http", str(exc))
