"""Ways through HTTP and SOCKS proxies, by the library's connect().

It loads much that a direct link does without: this is imported where a proxy may be.
"""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidProxy, ProxyError
from websockets.proxy import get_proxy
from websockets.uri import WebSocketURI

from mlepool.errors import LinkError
from mlepool.transport.websocket.link import library_logger

__all__ = ["connect_by_proxy", "proxy_of_system"]


class _Way(asyncio.Protocol):
    """What the library takes for its own end: reads nothing, and says nothing."""

    transport: asyncio.Transport

    def __init__(self, protocol: ClientProtocol, **options: object) -> None:
        """Take what the library gives its own: nothing of it is needed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what comes for the end that takes over (asyncio)."""
        # uvloop's transports are none of asyncio's classes, but work as they do.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    async def handshake(self, *args: object) -> None:
        """Leave it to the end that takes over (websockets)."""

    def start_keepalive(self) -> None:
        """Leave it to the end that takes over (websockets)."""


def proxy_of_system(uri: WebSocketURI) -> str | None:
    """Find the proxy that the system's settings name for a server."""
    return get_proxy(uri)


async def connect_by_proxy(uri: WebSocketURI, proxy: str) -> asyncio.Transport:
    """Connect to a server through a proxy.

    Returns:
        The connection, which has read nothing yet: reading is paused.

    Raises:
        LinkError: If the proxy's URL is wrong, or it finds no way.
        OSError: If the proxy can't be reached.
        ValueError: If an address can't be one.
    """
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    try:
        # A way is all that is wanted: the library need not know of TLS.
        way = await connect(
            f"ws://{host}:{uri.port}",
            compression=None,
            proxy=proxy,
            create_connection=cast(type[ClientConnection], _Way),
            open_timeout=None,
            user_agent_header="mlepool",
            logger=library_logger,
        )
    except InvalidProxy as exc:
        # Not the whole text, and no cause: the URL may have a password in it.
        raise LinkError("other", f"the proxy's URL is wrong: {exc.msg}") from None
    except ProxyError as exc:
        # Of a SOCKS proxy, what went wrong is in the cause.
        raise LinkError("http", f"the proxy failed: {exc.__cause__ or exc}") from exc
    return way.transport
