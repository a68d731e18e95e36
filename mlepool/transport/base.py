"""Link and Acceptor: what moves frames, whichever way it does so.

A link is driven by callbacks, not by a coroutine a message: a task switch and a queue
for each frame cost more than the frame itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Acceptor", "Link", "LinkInfo", "Receiver"]


class Receiver(Protocol):
    """Who takes what comes over a link. No method may raise."""

    def frame_received(self, frame: bytes) -> None:
        """Take one whole frame."""

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

    def send_data(self, head: bytes, body: bytes) -> None:
        """Send one frame that is made of two parts, sparing a copy."""

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
