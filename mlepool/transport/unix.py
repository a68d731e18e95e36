"""Links over a unix socket: clients on the same machine, and worker to supervisor.

A frame is its length in 4 bytes, big-endian, and its bytes. Who may connect is said
by the socket's file permissions and checked by the kernel's peer credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from mlepool.errors import LinkError
from mlepool.transport.accepting import Accepting
from mlepool.transport.base import Accept, LinkInfo, Piece, Receiver
from mlepool.transport.causes import cause_of, link_error

__all__ = ["UnixAcceptor", "dial_unix", "listen_unix"]

logger = logging.getLogger("mlepool.worker")

MAX_FRAME = 1024 * 1024  # bytes; a longer announced length is a broken peer
FIRST_BUFFER = 4 * 1024  # bytes; an idle link costs no more
GROWTH = 8  # times; a buffer that was filled by one read is too small
FULL_BUFFER = 512 * 1024  # bytes; a frame of bulk, and the beginning of the next
WRITE_HIGH = 256 * 1024  # bytes that may wait before bulk has to: control is behind it
SEND_BUFFER = 1024 * 1024  # bytes in the kernel; the system's limit may be lower
WORTH_SENDFILE = 16 * 1024  # bytes; a smaller piece is read and written as soon
CLOSE_LIMIT = 5.0  # seconds that what was sent may take to leave after close()
BACKLOG = 1024  # links that may wait to be accepted; the kernel may allow fewer
MAX_SOCKET_PATH = 100  # bytes; sun_path holds 104 (macOS) to 108 (Linux)

_NOT_OURS = (
    "permission denied: this socket is for the account that runs the worker; others "
    "need its join URL"
)
_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class UnixLink(asyncio.BufferedProtocol):
    """A link, and the asyncio protocol that feeds it."""

    def __init__(self, accept: Accept | None = None) -> None:
        self._accept = accept
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._buffer = bytearray(FIRST_BUFFER)
        self._filled = 0
        self._was_small = False
        self._full = False
        self._lost: str | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._fd = -1
        self.info = LinkInfo()

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
        if not self._is_over():
            self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def send_file(self, head: bytes, piece: Piece) -> None:
        """Send a frame whose second part is in a file.

        Where nothing else waits, the kernel moves the file's pages itself.
        """
        if self._is_over():
            return
        head = _LENGTH.pack(len(head) + piece.size) + head
        if piece.size < WORTH_SENDFILE or self._transport.get_write_buffer_size():
            self._transport.write(piece.read_behind(head))
            return
        self._transport.write(head)
        sent = 0
        if not self._transport.get_write_buffer_size():
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                sent = os.sendfile(self._fd, piece.fd, piece.offset, piece.size)
        if sent < piece.size:
            self._send_rest(Piece(piece.fd, piece.offset + sent, piece.size - sent))

    def _send_rest(self, piece: Piece) -> None:
        try:
            self._transport.write(piece.read_behind(b""))
        except EOFError:
            self._fail("a frame could not be sent whole")
            raise

    def close(self) -> None:
        """Close after what was sent is on its way."""
        if not self._is_over():
            loop = asyncio.get_running_loop()
            self._transport.close()
            self._ending = loop.call_later(CLOSE_LIMIT, self._transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        # uvloop's transports are none of asyncio's classes, but work as they do.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        sock = transport.get_extra_info("socket")
        self._fd = sock.fileno()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.info = _peer_info(sock)
        if self._accept is not None:
            self._accept(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        if self._ending is not None:
            self._ending.cancel()
        self._end(str(exc) if exc else "the other side closed the link")

    def eof_received(self) -> None:
        """Note that nothing more will come (asyncio)."""
        self.close()

    def pause_writing(self) -> None:
        """Note that the buffer is full (asyncio)."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that the buffer is low again (asyncio)."""
        self._full = False
        if self._receiver is not None:
            self._receiver.writable()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go (asyncio)."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take frames out of the buffer (asyncio)."""
        if self._receiver is not None:
            self._receiver.bytes_received()
        self._filled += nbytes
        was_full = self._filled == len(self._buffer)
        at, needed = self._deliver()
        if at < self._filled:
            self._buffer[: self._filled - at] = self._buffer[at : self._filled]
        self._filled -= at
        if was_full and needed <= MAX_FRAME:
            self._grow(needed + _LENGTH.size)
        if len(self._buffer) > FIRST_BUFFER:
            self._shrink(nbytes)

    def _grow(self, needed: int) -> None:
        """Take a larger buffer; asyncio still holds the old one, so not in place."""
        size = max(needed, min(len(self._buffer) * GROWTH, FULL_BUFFER))
        if size > len(self._buffer):
            grown = bytearray(size)
            grown[: self._filled] = self._buffer[: self._filled]
            self._buffer = grown

    def _shrink(self, nbytes: int) -> None:
        """Take a small buffer again: most links are quiet mostly."""
        size = len(self._buffer)
        is_small = not self._filled and nbytes < FIRST_BUFFER
        # It grew for one frame, such as a welcome, and not for bulk.
        is_over = (
            not self._filled and size <= FIRST_BUFFER * GROWTH and 2 * nbytes < size
        )
        # A small read alone may be the end of a large frame; the next one is not.
        if is_over or (is_small and self._was_small):
            self._buffer = bytearray(FIRST_BUFFER)
        self._was_small = is_small

    def _deliver(self) -> tuple[int, int]:
        at, needed = 0, 0
        while self._filled - at >= _LENGTH.size:
            (needed,) = _LENGTH.unpack_from(self._buffer, at)
            if needed > MAX_FRAME:
                self._fail(f"a frame of {needed} bytes was announced")
                return self._filled, needed
            after = at + _LENGTH.size + needed
            if after > self._filled:
                break
            self._hand_out(memoryview(self._buffer)[at + _LENGTH.size : after])
            at = after
        return at, needed

    def _hand_out(self, frame: memoryview) -> None:
        if self._receiver is None:
            self._early.append(bytes(frame))
        else:
            self._receiver.frame_received(frame)

    def _fail(self, cause: str) -> None:
        self._transport.abort()
        self._end(cause)

    def _end(self, cause: str) -> None:
        if self._lost is None:
            self._lost = cause
            if self._receiver is not None:
                self._receiver.link_lost(cause)

    def _is_over(self) -> bool:
        return self._lost is not None or self._transport.is_closing()


class UnixAcceptor:
    """Listens on a unix socket."""

    def __init__(self, listener: socket.socket, path: Path, accept: Accept) -> None:
        self._listener = listener
        self._path = path
        self._accept = accept
        self._serving = asyncio.create_task(self._serve())
        self._opening: set[asyncio.Task[None]] = set()
        self.address = f"unix:{path}"

    async def close(self) -> None:
        """Stop listening and remove the socket's file. Twice is fine."""
        self._serving.cancel()
        await asyncio.wait({self._serving, *self._opening})
        self._listener.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self) -> None:
        # Not asyncio's own server: with too many files open it logs a traceback for
        # each connection that might have come, every second.
        accepting = Accepting(self._listener)
        while True:
            sock, _ = await accepting.next()
            task = asyncio.create_task(self._open(sock))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: UnixLink(self._accept), sock)
        except OSError as exc:
            sock.close()
            logger.warning("lost a local link as it came: %s", cause_of(exc))


async def listen_unix(path: Path, accept: Accept) -> UnixAcceptor:
    """Listen on a socket at a path that only this account can open.

    An old socket file is replaced: the caller holds the lock on the folder.

    Raises:
        LinkError: If that is not possible.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        _bind(sock, path)
    except OSError as exc:
        sock.close()
        raise LinkError("other", f"cannot listen on {path}: {exc}") from exc
    return UnixAcceptor(sock, path, accept)


async def dial_unix(path: Path) -> UnixLink:
    """Connect to a socket.

    Raises:
        LinkError: If nobody listens there, or it may not be opened.
    """
    loop = asyncio.get_running_loop()
    try:
        with reachable(path) as name:
            _, link = await loop.create_unix_connection(UnixLink, name)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise LinkError("refused", f"no worker listens on {path}") from exc
    except PermissionError as exc:
        raise LinkError("other", _NOT_OURS) from exc
    except OSError as exc:
        raise link_error(exc) from exc
    return link


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a name for a socket's path that is short enough for the kernel.

    Raises:
        OSError: If the path is too long and the platform offers no way round.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(f"the socket path {path} is over {MAX_SOCKET_PATH} bytes long")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _bind(sock: socket.socket, path: Path) -> None:
    """Have a socket listen at a path: who finds it there is not refused any more."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with reachable(beside) as name:
        sock.bind(name)
    beside.chmod(0o600)
    sock.listen(BACKLOG)
    beside.replace(path)


def _peer_info(sock: socket.socket) -> LinkInfo:
    if not hasattr(socket, "SO_PEERCRED"):
        # Elsewhere the socket's file permissions alone say who got in.
        return LinkInfo("a process on this machine", is_local=True)
    size = _CREDENTIALS.size
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    ours = uid in (0, os.geteuid())
    return LinkInfo(f"pid {pid} of uid {uid}", is_local=ours)
