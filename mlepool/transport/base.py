"""Link and Acceptor: what moves frames, whichever way it does so.

A link is driven by callbacks, not by a coroutine a message: a task switch and a queue
for each frame cost more than the frame itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Acceptor", "Link", "LinkInfo", "Piece", "Receiver"]


class Receiver(Protocol):
    """Who takes what comes over a link. No method may raise."""

    def frame_received(self, frame: bytes | memoryview) -> None:
        """Take one whole frame. A view is valid until this returns."""

    def bytes_received(self) -> None:
        """Note that something came, perhaps only a part of a frame."""

    def writable(self) -> None:
        """Note that the link takes bulk again after :attr:`Link.is_full`."""

    def link_lost(self, cause: str) -> None:
        """Note that the link is gone; called once, nothing comes after it."""


@dataclass(frozen=True)
class LinkInfo:
    """What is known of the other end of a link.

    Attributes:
        address: For people: ``"10.0.0.7:51234"``, ``"pid 4711 of uid 1000"``.
        channel: The key that the channel's own handshake showed; empty without TLS.
        is_local: True if the operating system vouches that the peer is ours.
    """

    address: str = ""
    channel: bytes = b""
    is_local: bool = False


class Piece(NamedTuple):
    """A part of an open file, in bytes."""

    fd: int
    offset: int
    size: int

    def check(self) -> None:
        """See that it is there: a frame that was begun has to be sent whole.

        Raises:
            EOFError: If the file ends before.
        """
        size = os.fstat(self.fd).st_size
        if size < self.offset + self.size:
            raise EOFError(f"it ends at {size}")

    def read_behind(self, head: bytes) -> bytearray:
        """Read it into a buffer, behind a head.

        Raises:
            EOFError: If the file ends before.
        """
        begin = len(head)
        buffer = bytearray(begin + self.size)
        buffer[:begin] = head
        with memoryview(buffer)[begin:] as view:
            count = os.preadv(self.fd, [view], self.offset) if self.size else 0
        if count < self.size:
            raise EOFError(f"it ends at {self.offset + count}")
        return buffer


class Link(Protocol):
    """A way for whole frames, in order, both ways."""

    info: LinkInfo

    @property
    def is_full(self) -> bool:
        """True while so much waits to be sent that bulk should wait."""

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver; frames that came before are handed to it now."""

    def send(self, frame: bytes) -> None:
        """Send a frame. Never waits; after the link's end it does nothing."""

    def send_file(self, head: bytes, piece: Piece) -> None:
        """Send a frame that is made of a head and a piece of a file.

        Raises:
            EOFError: If the file ends before the piece does; nothing was sent, or
                the link is lost.
        """

    def close(self) -> None:
        """Close the link after what was sent is on its way; twice is fine."""


class Acceptor(Protocol):
    """Takes links that others dial.

    Attributes:
        address: Where it listens, for people.
    """

    address: str

    async def close(self) -> None:
        """Stop listening; links that were accepted go on."""


Accept = Callable[[Link], None]
