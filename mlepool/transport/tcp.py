"""Takes TCP connections from strangers: a look at the first byte, TLS, a handshake.

However many strangers come, and whatever they send, they cost a bounded number of
sockets for a bounded time, and one line in the log each.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import errno
import functools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from mlepool.errors import LinkError
from mlepool.transport.accepting import Accepting
from mlepool.transport.causes import cause_of
from mlepool.transport.tls import TlsEnd

__all__ = ["Entrant", "TcpAcceptor", "name_of", "open_listeners"]

logger = logging.getLogger("mlepool.worker")

HANDSHAKE_LIMIT = 10.0  # seconds for TLS and the protocol's handshake together
MAX_STRANGERS = 128  # connections in handshake; who comes then may take one's place
SILENT_LIMIT = 1.0  # seconds that a stranger keeps its place from others without a word
SLOW_LIMIT = 3.0  # and with one: a crowd of honest clients on slow lines gets through
LOOK_EVERY = 0.05  # seconds between two looks for one that has to make room
BACKLOG = 1024  # connections that wait in the kernel: a whole pool may come at once
TLS_HANDSHAKE_BYTE = 0x16  # ContentType handshake, RFC 8446 section 5.1

SPEAKS_TLS = "This port speaks TLS only: use wss:// or no scheme at all.\n"
SPEAKS_PLAIN = "This port does not speak TLS: use ws://.\n"


class Entrant(asyncio.BufferedProtocol, abc.ABC):
    """What takes over a connection: an asyncio protocol with a handshake.

    Attributes:
        decided: Done once the handshake has succeeded or failed.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.decided: asyncio.Future[None] = loop.create_future()

    def decide(self) -> None:
        """Note that the handshake has succeeded or failed; twice is fine."""
        _settle(self.decided)

    @abc.abstractmethod
    def abort(self) -> None:
        """Give up: the handshake takes too long."""


@dataclasses.dataclass(slots=True)
class _Stranger:
    """A connection in the handshake, and since when, by the loop's clock."""

    address: str
    came: float
    has_spoken: bool = False

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]

    def is_slow(self, now: float) -> bool:
        limit = SLOW_LIMIT if self.has_spoken else SILENT_LIMIT
        return now - self.came >= limit


class TcpAcceptor:
    """Listens on a TCP port, with TLS or without.

    Args:
        listeners: The listening sockets.
        factory: Makes what takes over a connection, after TLS.
        tls: The TLS settings; None for plain.

    Attributes:
        address: Where it listens, for people.
        port: The port.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        factory: Callable[[], Entrant],
        *,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listeners = listeners
        self._factory = factory
        self._tls = tls
        self._places = asyncio.Semaphore(MAX_STRANGERS)
        self._strangers: dict[asyncio.Task[None], _Stranger] = {}  # the oldest first
        self._bare: set[socket.socket] = set()  # accepted, and with no transport yet
        self._tasks = {asyncio.create_task(self._serve(one)) for one in listeners}
        self.address = name_of(listeners[0].getsockname())
        self.port: int = listeners[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening; those in the handshake are sent away. Twice is fine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _serve(self, listener: socket.socket) -> None:
        loop, accepting = asyncio.get_running_loop(), Accepting(listener)
        while True:
            sock, peer = await accepting.next()
            self._bare.add(sock)
            try:
                await self._take_place()
            except asyncio.CancelledError:
                self._close_bare(sock)
                raise
            stranger = _Stranger(name_of(peer), loop.time())
            task = asyncio.create_task(self._open(sock, stranger))
            self._tasks.add(task)
            self._strangers[task] = stranger
            task.add_done_callback(functools.partial(self._opened, sock))

    async def _take_place(self) -> None:
        """Wait for a place; the silent and the slow keep it from nobody."""
        while True:
            if self._places.locked():
                self._make_room(asyncio.get_running_loop().time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._places.acquire()
                    return

    def _make_room(self, now: float) -> None:
        """Send one away who takes too long, of the host that has the most places.

        Who is honest, and comes from elsewhere than a crowd does, is left alone.
        """
        hosts = Counter(stranger.host for stranger in self._strangers.values())
        for task, stranger in self._strangers.items():
            if hosts[stranger.host] == max(hosts.values()) and stranger.is_slow(now):
                logger.warning("refused %s: too slow, others wait", stranger.address)
                del self._strangers[task]
                task.cancel()
                return

    def _opened(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._strangers.pop(task, None)
        self._places.release()
        self._close_bare(sock)  # here, since the task may not even have begun

    def _close_bare(self, sock: socket.socket) -> None:
        if sock in self._bare:
            self._bare.discard(sock)
            sock.close()

    async def _open(self, sock: socket.socket, stranger: _Stranger) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                first = await _peek(sock)
                stranger.has_spoken = True
                if not self._speaks(first):
                    await self._turn_away(sock, stranger.address)
                    return
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end = self._factory()
                self._bare.discard(sock)
                await self._begin(end, sock)
                await _decision(end)
        except (OSError, TimeoutError) as exc:
            # Port scanners and broken clients: one line, no traceback.
            logger.warning("refused %s: %s", stranger.address, _cause(exc))

    async def _begin(self, end: Entrant, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if self._tls is None:
            await loop.connect_accepted_socket(lambda: end, sock)
            return
        outer = TlsEnd(end, self._tls, server_side=True)
        await loop.connect_accepted_socket(lambda: outer, sock)
        await outer.secured()

    def _speaks(self, first: int) -> bool:
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
        except OSError:
            pass  # it has gone away by itself; why it was refused is logged
        finally:
            sock.close()


async def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Listen on a TCP port.

    Args:
        host: An address or name; empty for every interface.
        port: 0 lets the system choose.

    Raises:
        LinkError: If the port is taken or may not be used.
    """
    try:
        listener = await _open_listener(host, port)
    except (OSError, ValueError) as exc:
        taken = getattr(exc, "errno", None) == errno.EADDRINUSE
        cause = "the port is already in use" if taken else exc
        raise LinkError("other", f"cannot listen on {host}:{port}: {cause}") from exc
    listener.setblocking(False)
    return [listener]


async def _open_listener(host: str, port: int) -> socket.socket:
    if host == "" and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def _cause(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError) and not exc.args:
        return f"no handshake within {HANDSHAKE_LIMIT:g} s"
    return cause_of(exc)


async def _decision(end: Entrant) -> None:
    try:
        await asyncio.shield(end.decided)
    except asyncio.CancelledError:
        if not end.decided.done():  # else it is a link already, and goes on
            end.abort()
        raise


async def _peek(sock: socket.socket) -> int:
    """Look at the first byte without taking it.

    Raises:
        ConnectionError: If there is none.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    if not first:
        raise ConnectionError("it left without a word")
    return first[0]


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def name_of(address: object) -> str:
    """Write a socket's address as people do."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0]).removeprefix("::ffff:")
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return str(address or "unknown")
