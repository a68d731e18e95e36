"""The dialling end: the library's connect(), for its proxies, without its queue."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import ssl
import sys
import urllib.parse
import urllib.request
from typing import Any, Literal, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.protocol import Event
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from mlepool.errors import LinkError
from mlepool.transport.base import LinkInfo
from mlepool.transport.causes import link_error
from mlepool.transport.splitter import Splitter
from mlepool.transport.tcp import name_of
from mlepool.transport.tls import TlsEnd
from mlepool.transport.websocket.link import MAX_FRAME, WebSocketLink, library_logger

__all__ = ["dial_websocket"]

READ_SIZE = 16 * 1024  # bytes; a TLS record's. The rest of a large frame comes at once


class _ClientEnd(ClientConnection, asyncio.BufferedProtocol):
    """The dialling end: the library's connection, its queue left out."""

    def __init__(self, protocol: ClientProtocol, **options: object) -> None:
        super().__init__(protocol, ping_interval=None)
        self.link = WebSocketLink(protocol)
        self._splitter = Splitter(limit=MAX_FRAME)
        self._has_ended = False
        self._buffer: memoryview | None = None

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

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go: in a large frame to its place (asyncio)."""
        room = self._splitter.room()
        if room is not None:
            return room
        self._buffer = memoryview(bytearray(READ_SIZE))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes (asyncio)."""
        self.link.heard()
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            frame = self._splitter.fill(nbytes)
            if frame is not None:
                self.link.take_large(frame)
        else:
            self._part(buffer[:nbytes])
        self.link.write()

    def _part(self, view: memoryview) -> None:
        for is_frame, part in self._splitter.feed(view):
            if self._has_ended:
                break  # a part before this one had us close, and TLS told the end
            if is_frame:
                self.link.take_large(part)
            else:
                super().data_received(bytes(part))

    def data_received(self, data: bytes) -> None:
        """Take bytes: uvloop gives them so (asyncio)."""
        self.link.heard()
        self._part(memoryview(data))
        self.link.write()

    def eof_received(self) -> None:
        """Take the end of the other side's bytes (asyncio)."""
        self._has_ended = True
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


class _TlsClientEnd(_ClientEnd):
    """The dialling end with TLS below."""

    def __init__(self, protocol: ClientProtocol, **options: object) -> None:
        super().__init__(protocol, **options)
        host = protocol.uri.host
        self._below = TlsEnd(self, _client_tls(), server_hostname=host)
        self._has_begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with TLS; it calls this again behind its handshake (asyncio)."""
        if self._has_begun:
            super().connection_made(transport)
            return
        self._has_begun = True
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_protocol(self._below)
        self._below.connection_made(transport)

    async def handshake(self, *args: Any, **options: Any) -> None:
        """Shake hands, behind TLS (websockets)."""
        await self._below.secured()
        await super().handshake(*args, **options)


class _Connect(connect):
    """The library's way to a server, by way of proxies."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Go nowhere else: a worker sends nobody away."""
        return exc


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
    try:
        end.link.info = _info_of(end.link.transport)
    except AttributeError as exc:  # of asyncio's transport, if it has ended already
        raise LinkError("other", "the link broke at once") from exc
    return end.link


async def _connect(url: str, proxy: str | Literal[True] | None) -> _ClientEnd:
    if proxy is True:
        proxy = get_proxy(parse_uri(url)) if _may_have_proxy() else None
    # TLS is ours: for the library the link is plain.
    end = await _Connect(
        url.replace("wss://", "ws://", 1),
        compression=None,
        proxy=proxy,
        create_connection=_TlsClientEnd if url.startswith("wss://") else _ClientEnd,
        user_agent_header="mlepool",
        open_timeout=None,
        max_size=MAX_FRAME,
        logger=library_logger,
    )
    assert isinstance(end, _ClientEnd)
    return end


def _info_of(transport: asyncio.Transport) -> LinkInfo:
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else b""
    channel = hashlib.sha256(certificate).digest() if certificate else b""
    return LinkInfo(name_of(transport.get_extra_info("peername")), channel)


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
