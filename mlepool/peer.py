"""Drives one wire session over one link: reads, writes, ticks (asyncio)."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from mlepool.errors import RemoteProtocolError
from mlepool.transport.base import Link, Piece
from mlepool.wire.codec import Data, encode_data
from mlepool.wire.messages import Bye, Message
from mlepool.wire.session import Session, State

__all__ = ["Handler", "Peer"]

logger = logging.getLogger("mlepool.peer")

MAX_CAUSE = 1000  # characters of what ended a link
CLOSE_LIMIT = 6.0  # seconds; a link that the other side holds is cut after five


class Handler(Protocol):
    """Who acts on what a peer receives. May raise RemoteProtocolError only."""

    def message_received(self, message: Message | Data) -> None:
        """Take a message that the session let through."""

    def writable(self) -> None:
        """Note that bulk may be sent again."""

    def peer_gone(self, cause: str, code: str) -> None:
        """Note the end, once. ``code`` is the Bye's, or ``"lost"`` without one.

        The cause is one printable line, whoever said it.
        """


class Peer:
    """One session on one link, with its timer.

    The link is closed on any protocol error, with one line to the other side; what
    else the process does is not touched.
    """

    def __init__(self, link: Link, session: Session, *, handler: Handler) -> None:
        self.link = link
        self.session = session
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self._closed = asyncio.Event()

    def start(self) -> None:
        """Say Hello and begin to listen."""
        self._flush()
        self._set_timer()
        self.link.attach(self)

    @property
    def is_full(self) -> bool:
        """True while bulk should wait."""
        return self.link.is_full

    @property
    def is_gone(self) -> bool:
        """True once the conversation has ended."""
        return self._gone

    def hand_over(self, handler: Handler) -> None:
        """Have somebody else act on what is received from now on."""
        self._handler = handler

    def send(self, message: Message) -> None:
        """Send a message of the open conversation; nothing once it has ended."""
        if self._gone:
            return
        self.session.send(message)
        self._flush()

    def send_data(self, call: int, position: int, piece: Piece) -> None:
        """Send journal bytes from their file.

        Raises:
            EOFError: If the file ends before the piece does.
        """
        if not self._gone:
            self.link.send_file(encode_data(call, position, b""), piece)
            self.session.sent(self._loop.time())

    def send_bytes(self, call: int, position: int, data: bytes) -> None:
        """Send journal bytes."""
        if not self._gone:
            self.link.send(encode_data(call, position, data))
            self.session.sent(self._loop.time())

    def ping(self) -> None:
        """Ask for a sign of life, unless that has been done and not been answered."""
        if not self._gone:
            self.session.ping(self._loop.time())
            self._flush()

    def reset_timer(self) -> None:
        """Look anew for what is due: after the welcome that may be sooner."""
        if self._timer is not None:
            self._timer.cancel()
        self._set_timer()

    def close(self, code: str = "closed", reason: str = "") -> None:
        """Say goodbye and close the link; twice is fine."""
        if self._gone:
            return
        self.session.close(code, reason)
        self._flush()
        self._end(reason or code, code)

    def frame_received(self, frame: bytes | memoryview) -> None:
        """Take a frame from the link."""
        if self._gone:
            return
        try:
            message = self.session.receive(frame)
            if isinstance(message, Bye):
                self._end(message.reason or message.code, message.code)
                return
            if message is not None:
                self._handler.message_received(message)
        except RemoteProtocolError as exc:
            self.close("protocol", str(exc))
            return
        self._flush()
        if self.session.state is State.CLOSED and not self._gone:
            self._end(self.session.farewell, "version")

    def bytes_received(self) -> None:
        """Note a sign of life."""
        self.session.heard(self._loop.time())

    def writable(self) -> None:
        """Pass it on."""
        if not self._gone:
            self._handler.writable()

    async def wait_closed(self) -> None:
        """Wait until the link itself is gone, at most for :data:`CLOSE_LIMIT`."""
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._closed.wait()
        except TimeoutError:
            logger.warning("%s does not let go of its link", self.link.info.address)

    def link_lost(self, cause: str) -> None:
        """Note the end of the link."""
        self._closed.set()
        self._end(cause, "lost")

    def _flush(self) -> None:
        if self.session.outgoing:
            for frame in self.session.frames_to_send():
                self.link.send(frame)
            self.session.sent(self._loop.time())

    def _set_timer(self) -> None:
        due = self.session.next_tick()
        if due is not None and not self._gone:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        cause = self.session.tick(self._loop.time())
        if cause is not None:
            self.close("silent", cause)
            return
        self._flush()
        self._set_timer()

    def _end(self, cause: str, code: str) -> None:
        if self._gone:
            return
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        self.link.close()
        self._handler.peer_gone(_one_line(cause), code)


def _one_line(text: str) -> str:
    """Make a line of what anybody may have said: it goes to logs and terminals."""
    text = text[: MAX_CAUSE + 1]
    if len(text) > MAX_CAUSE:
        text = text[: MAX_CAUSE - 3] + "..."
    return "".join(one if one.isprintable() else " " for one in text)
