"""What tests of links and protocols share: two kinds of loop, ways to open links."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from hypothesis import settings

from mlepool.testing.contracts import LinkPair, OpenPair
from mlepool.testing.links import memory_pair
from mlepool.testing.loop import run
from mlepool.transport.base import Accept, Link
from mlepool.transport.unix import UnixLink, dial_unix, listen_unix
from mlepool.transport.websocket import (
    WebSocketAcceptor,
    WebSocketLink,
    listen_websocket,
)
from mlepool.transport.websocket.client import dial_websocket
from mlepool.worker.access.identity import Identity

# The same examples at every run, so that a failure is nobody's bad luck; by hand, more
# and other ones: MLEPOOL_EXAMPLES=100000 pytest tests/wire
_EXAMPLES = os.environ.get("MLEPOOL_EXAMPLES")
steady = settings(
    derandomize=_EXAMPLES is None,
    max_examples=int(_EXAMPLES or 60),
    deadline=None,  # a busy machine is no failure
)

REAL_LIMIT = 30.0  # seconds for a test with true sockets: it fails, and never hangs

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def in_jumping_time(test: AsyncTest) -> Callable[..., None]:
    """Run a test in a loop whose clock jumps; for links in memory."""

    @functools.wraps(test)
    def wrapper(*args: Any, **keywords: Any) -> None:
        run(test(*args, **keywords))

    return wrapper


def in_real_time(test: AsyncTest) -> Callable[..., None]:
    """Run a test in a common loop; for true sockets, which are closed afterwards."""

    async def whole(*args: Any, **keywords: Any) -> None:
        async with asyncio.timeout(REAL_LIMIT):
            try:
                await test(*args, **keywords)
            finally:
                await _tidy_up()

    @functools.wraps(test)
    def wrapper(*args: Any, **keywords: Any) -> None:
        asyncio.run(whole(*args, **keywords))

    return wrapper


_leftovers = contextlib.AsyncExitStack()


def at_end(callback: Callable[[], Any]) -> None:
    """Have something called when the test in real time is over, however it ends."""
    _leftovers.callback(callback)


def abort(transport: asyncio.WriteTransport) -> None:
    """Break a connection off, unless it has ended."""
    with contextlib.suppress(AttributeError):  # asyncio's, if it has ended already
        transport.abort()


async def _tidy_up() -> None:
    await _leftovers.aclose()
    for _ in range(5):  # asyncio closes sockets in a later turn
        await asyncio.sleep(0)


class Accepted:
    """Takes the links that an acceptor accepts, for a test to wait for."""

    def __init__(self) -> None:
        self.links: asyncio.Queue[Link] = asyncio.Queue()

    def __call__(self, link: Link) -> None:
        at_end(functools.partial(abort, transport_of(link)))
        self.links.put_nowait(link)

    async def next(self) -> Any:
        """Wait for a link."""
        return await self.links.get()


@contextlib.asynccontextmanager
async def memory_links() -> AsyncIterator[LinkPair]:
    """Open links in memory."""
    near, far = memory_pair()
    yield LinkPair(near, far, far.stall, far.resume)


@contextlib.asynccontextmanager
async def unix_links(folder: Path) -> AsyncIterator[LinkPair]:
    """Open links over a unix socket."""
    accepted = Accepted()
    acceptor = await listen_unix(folder / "socket", accepted)
    try:
        near = await dial_unix(folder / "socket")
        yield real_pair(near, await accepted.next())
    finally:
        await acceptor.close()
        await _tidy_up()


@contextlib.asynccontextmanager
async def websocket_links(identity: Identity | None) -> AsyncIterator[LinkPair]:
    """Open links over a WebSocket; with TLS if there is an identity."""
    accepted = Accepted()
    acceptor = await listen(accepted, identity)
    try:
        url = url_of(acceptor, secure=identity is not None)
        near = await dial_websocket(url, direct=True)
        yield real_pair(near, await accepted.next())
    finally:
        await _tidy_up()


@contextlib.asynccontextmanager
async def turned_round(open_pair: OpenPair) -> AsyncIterator[LinkPair]:
    """Open real links, and have the end that accepted play the one that dialled."""
    async with open_pair() as pair:
        yield real_pair(pair.accepted, pair.dialled)


async def listen_at(path: Path) -> Accepted:
    """Listen on a unix socket."""
    accepted = Accepted()
    acceptor = await listen_unix(path, accepted)
    _leftovers.push_async_callback(acceptor.close)
    return accepted


async def listen(accept: Accept, identity: Identity | None = None) -> WebSocketAcceptor:
    """Listen on a port of loopback; with TLS if there is an identity."""
    options: dict[str, Any] = {}
    if identity is not None:
        options = {"tls": identity.tls(), "channel": identity.channel}
    acceptor = await listen_websocket("127.0.0.1", 0, accept, **options)
    _leftovers.push_async_callback(acceptor.close)
    return acceptor


def url_of(acceptor: WebSocketAcceptor, *, secure: bool = False) -> str:
    """Give the URL of an acceptor's port."""
    return f"{'wss' if secure else 'ws'}://127.0.0.1:{acceptor.port}"


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port of loopback at which nobody listens, nor comes to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def transport_of(link: Link) -> asyncio.Transport:
    """Give a real link's asyncio transport: to stall it, to break it."""
    if isinstance(link, WebSocketLink):
        return link.transport
    assert isinstance(link, UnixLink)
    return link._transport


def real_pair(near: Link, far: Link) -> LinkPair:
    """Make a pair of links whose accepted end can be stalled."""
    transport = transport_of(far)
    # With TLS, close() waits for the other side's answer, and so for what is between.
    at_end(functools.partial(abort, transport_of(near)))
    return LinkPair(near, far, transport.pause_reading, transport.resume_reading)
