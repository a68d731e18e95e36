"""Links over WebSocket (RFC 6455), by the websockets library; TLS, proxies.

Both ends deliver frames by callback.
"""

from mlepool.transport.websocket.client import dial_websocket
from mlepool.transport.websocket.link import MAX_FRAME, WebSocketLink
from mlepool.transport.websocket.server import (
    NOT_A_PAGE,
    Inquiry,
    Page,
    WebSocketAcceptor,
    listen_websocket,
)

__all__ = [
    "MAX_FRAME",
    "NOT_A_PAGE",
    "Inquiry",
    "Page",
    "WebSocketAcceptor",
    "WebSocketLink",
    "dial_websocket",
    "listen_websocket",
]
