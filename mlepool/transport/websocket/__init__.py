"""Links over WebSocket (RFC 6455), by the websockets library; TLS, proxies.

Both ends deliver frames by callback. The dialling one is not named here: it loads what
knows proxies, and a worker, which listens, does not need it.
"""

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
    "listen_websocket",
]
