"""Two links joined in memory, which stall, resume and break when they are told to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mlepool.transport.base import LinkInfo, Piece, Receiver
from mlepool.wire.codec import MAX_FRAME

__all__ = ["MemoryLink", "Recorder", "memory_pair"]

WRITE_HIGH = 256 * 1024  # bytes not taken yet above which the sender's link is full
WRITE_LOW = 64 * 1024  # bytes not taken yet at which it no longer is

CLOSED = "the other side closed the link"
CUT = "the link was cut"


def memory_pair(
    *, channel: bytes = b"", is_local: bool = True
) -> tuple[MemoryLink, MemoryLink]:
    """Make two links, each the other's end. Needs a running loop.

    Args:
        channel: The key that a real link's TLS would have shown.
        is_local: True for what the operating system vouches for.
    """
    info = LinkInfo("memory", channel, is_local)
    near, far = MemoryLink(info), MemoryLink(info)
    near._other, far._other = far, near
    return near, far


class MemoryLink:
    """One end of a link in memory; made by :func:`memory_pair`.

    What the other end sends is taken in by callbacks of the loop, never inside the
    other's ``send``. :meth:`stall`, :meth:`resume` and :meth:`cut` are about what this
    end takes in; for the other direction call them on the other end.
    """

    _other: MemoryLink

    def __init__(self, info: LinkInfo) -> None:
        self.info = info
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._inbox: deque[bytes] = deque()
        self._waiting = 0  # bytes in the inbox
        self._left: int | None = None  # bytes to take until the cut
        self._last_word = ""  # why nothing comes after the inbox's last frame
        self._stalled = False
        self._full = False
        self._lost: str | None = None

    @property
    def is_full(self) -> bool:
        """True while bulk should wait."""
        return self._full

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver."""
        self._receiver = receiver
        if self._lost is not None:
            receiver.link_lost(self._lost)
        else:
            self._take()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self._lost is None and not self._last_word:
            self._other._arrive(frame)
            self._full = self._other._waiting > WRITE_HIGH

    def send_file(self, head: bytes, piece: Piece) -> None:
        """Send a frame whose second part is in a file."""
        self.send(bytes(piece.read_behind(head)))

    def close(self) -> None:
        """Close; the other end still takes in what was sent."""
        if self._lost is None:
            if not self._last_word:
                self._other._finish(CLOSED)
            self._last_word = "closed by this side"
            self._inbox.clear()
            self._loop.call_soon(self._lose, self._last_word)

    def stall(self) -> None:
        """Take nothing in, as a process that is stopped or too busy."""
        self._stalled = True

    def resume(self) -> None:
        """Take in what came while stalled, and go on."""
        self._stalled = False
        self._loop.call_soon(self._take)

    def cut(self, after_bytes: int = 0) -> None:
        """Break the link, for both ends.

        Args:
            after_bytes: How much this end still takes in before that, counted in the
                bytes of its frames. A frame that is not whole by then is lost.
        """
        self._left = after_bytes
        self._loop.call_soon(self._take if after_bytes else self._break)

    def _arrive(self, frame: bytes) -> None:
        if self._lost is None and not self._last_word:
            self._inbox.append(frame)
            self._waiting += len(frame)
            self._loop.call_soon(self._take)

    def _finish(self, cause: str) -> None:
        self._last_word = cause
        self._loop.call_soon(self._take)

    def _take(self) -> None:
        while self._inbox and self._may_take():
            self._take_one(self._inbox.popleft())
        if self._last_word and not self._inbox and self._may_take():
            self._lose(self._last_word)

    def _may_take(self) -> bool:
        return self._receiver is not None and self._lost is None and not self._stalled

    def _take_one(self, frame: bytes) -> None:
        assert self._receiver is not None
        self._waiting -= len(frame)
        whole = self._left is None or len(frame) <= self._left
        if whole or self._left:
            self._receiver.bytes_received()
        if len(frame) > MAX_FRAME:
            self._break(f"a frame of {len(frame)} bytes was announced", CLOSED)
        elif whole:
            self._receiver.frame_received(frame)
            self._other._drained(self._waiting)
        if self._left is not None:
            self._left -= len(frame)
            if self._left <= 0:
                self._break()

    def _drained(self, waiting: int) -> None:
        if self._full and waiting <= WRITE_LOW:
            self._full = False
            self._loop.call_soon(self._tell_writable)

    def _tell_writable(self) -> None:
        if not self._full and self._receiver is not None and self._lost is None:
            self._receiver.writable()

    def _break(self, cause: str = CUT, others: str = CUT) -> None:
        self._loop.call_soon(self._other._lose, others)
        self._lose(cause)

    def _lose(self, cause: str) -> None:
        if self._lost is None:
            self._lost = cause
            self._inbox.clear()
            if self._receiver is not None:
                self._receiver.link_lost(cause)


class Recorder:
    """A receiver that notes what comes, and waits for it.

    Attributes:
        frames: The frames, in order.
        notes: How often ``bytes_received`` was called.
        resumed: How often ``writable`` was called.
        losses: The causes of ``link_lost``: one at most, if the link is right.
        late: What came after ``link_lost``: nothing, if the link is right.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.notes = 0
        self.resumed = 0
        self.losses: list[str] = []
        self.late: list[str] = []
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was noted makes a condition true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def noted(self, count: int) -> None:
        """Wait until bytes have come so many times."""
        await self.until(lambda: self.notes >= count)

    async def lost(self) -> str:
        """Wait for the link's end, and give its cause."""
        await self.until(lambda: bool(self.losses))
        return self.losses[0]

    def frame_received(self, frame: bytes | memoryview) -> None:
        """Note a frame (link)."""
        self.frames.append(bytes(frame))
        self._note("a frame")

    def bytes_received(self) -> None:
        """Note a sign of life (link)."""
        self.notes += 1
        self._note("bytes")

    def writable(self) -> None:
        """Note that bulk may be sent again (link)."""
        self.resumed += 1
        self._note("writable")

    def link_lost(self, cause: str) -> None:
        """Note the end (link)."""
        self._note("another loss")
        self.losses.append(cause)

    def _note(self, what: str) -> None:
        if self.losses:
            self.late.append(what)
        self._changed.set()
