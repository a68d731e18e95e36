"""What is open on one link; what comes after its end belongs to nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import (
    ConnectionLostError,
    LocalProtocolError,
    MlepoolError,
    RemoteProtocolError,
)
from mlepool.peer import Peer
from mlepool.wire.calls import CallTable
from mlepool.wire.codec import Data
from mlepool.wire.messages import (
    Accepted,
    Attach,
    Ended,
    Event,
    Leave,
    Message,
    Pong,
    Request,
    Seen,
    Skip,
)
from mlepool.wire.records import BadRecordError

__all__ = ["Call", "Conversation", "OpenCall", "elapsed"]

ForACall = Data | Skip | Seen | Accepted | Ended
FOR_A_CALL = (Data, Ended, Accepted, Skip, Seen)  # the most frequent first
WORK = (Data, Skip, Ended)  # the others are said again on each new link

# It does not stand still while the machine sleeps, and nobody sets it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Give seconds since some fixed moment."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class OpenCall(Protocol):
    """What is open on a link, and may live longer than it.

    Attributes:
        number: Its number on the present link; 0 if it is not open there.
        made: When it was made.
        sent: When it was first sent; None if it has to wait for a link.
    """

    number: int
    made: float
    sent: float | None

    @property
    def is_routine(self) -> bool:
        """True if a connection asks it by itself, on each link anew."""

    @property
    def message(self) -> Request | Attach:
        """What asks for it."""

    def again(self, number: int) -> Request | Attach | None:
        """Make what asks for it on a new link; None if it must not begin any more."""

    def deliver(self, message: ForACall) -> None:
        """Take what the worker sends for it."""

    def fail(self, error: MlepoolError) -> None:
        """Note that nothing more will come."""


class Call:
    """The call of a listener.

    Args:
        message: What asks for it.

    Attributes:
        listener: Who receives what comes; set before anything does.
    """

    __slots__ = ("listener", "made", "message", "number", "sent")

    is_routine = False

    listener: AsyncListener

    def __init__(self, message: Request | Attach) -> None:
        self.message = message
        self.number = 0
        self.made = elapsed()
        self.sent: float | None = None

    @property
    def is_unsent_request(self) -> bool:
        """True if it would begin something, and nobody has heard of it."""
        return self.sent is None and isinstance(self.message, Request)

    def again(self, number: int) -> Request | Attach | None:
        """Make what asks for it on a new link, from where this side has come to.

        Returns:
            None if its time is over and nobody has heard of it: it must not begin.
        """
        now, intake = elapsed(), self.listener.intake
        place: dict[str, Any] = {
            "call": number,
            "position": intake.received,
            "window": intake.window,
        }
        if isinstance(self.message, Attach):
            resumed = self.sent is not None
            return msgspec.structs.replace(self.message, is_resumed=resumed, **place)
        left = self.message.timeout
        # A limit that is not its listener's, too, counts on the worker alone.
        if left is not None and self.listener.timeout is not None:
            left = max(0.0, left - (now - self.made))
            if left == 0 and self.sent is None:
                return None
        # What is repeated is marked by its age, so that is never quite 0.
        age = self.message.age
        if self.sent is not None:
            age += max(now - self.sent, 1e-6)
        return msgspec.structs.replace(self.message, timeout=left, age=age, **place)

    def deliver(self, message: ForACall) -> None:
        """Take what the worker sends for it. Damage on its disk harms no other."""
        try:
            if isinstance(message, Data):
                self.listener.intake.data(message)
            else:
                self._hand_over(message)
        except BadRecordError as exc:
            self.listener.cut_off(str(exc))

    def fail(self, error: MlepoolError) -> None:
        """Note that nothing more will come."""
        self.listener.intake.fail(error)

    def _hand_over(self, message: Skip | Seen | Accepted | Ended) -> None:
        listener = self.listener
        if isinstance(message, Ended):
            listener.intake.ended(message.outcome)
        elif isinstance(message, Seen):
            listener.intake.seen(message.position)
        elif isinstance(message, Skip):
            listener.intake.skip(message.position)
        else:
            listener.command = message.command or listener.command
            # Of what was called here it is known; of what is attached to it is not.
            streams = message.streams and isinstance(self.message, Attach)
            listener.placed(message.place)
            listener.intake.accepted(streams=streams)


class Owner(Protocol):
    """Whose conversation it is."""

    def call_ended(self, call: OpenCall) -> None:
        """Note that a call's end has come."""

    def event_came(self, name: str, data: Any) -> None:
        """Note that something changed on the worker."""

    def link_gone(self, conversation: Conversation, cause: str, code: str) -> None:
        """Note that it is over."""


class Conversation:
    """What is open on one link: takes what the worker sends (a peer's handler).

    Args:
        name: The connection's name, for errors.
        owner: Who is told of what is over.

    Attributes:
        peer: The other end; set once it has welcomed us.
        is_writable: Called when bulk may be sent again.
        has_worked: If the link has brought output, or an end, that was asked for.
    """

    peer: Peer

    def __init__(self, name: str, owner: Owner) -> None:
        self.has_worked = False
        self._name = name
        self._owner = owner
        self._calls: CallTable[OpenCall] = CallTable()
        self._pongs: list[asyncio.Future[None]] = []
        self._early: list[Event] | None = []
        self.is_writable: Callable[[], None] = lambda: None

    def next_number(self) -> int:
        """Give the number that the next call should take."""
        return self._calls.next_number()

    def send(self, call: OpenCall) -> None:
        """Send a new call, whose message has this link's next number.

        Raises:
            LocalProtocolError: If it can't be sent.
        """
        self.peer.send(call.message)
        call.sent = call.made
        call.number = call.message.call
        self._calls.open(call.number, call)

    def resume(self, call: OpenCall) -> None:
        """Send a call again, that was made on another link, or on none."""
        number = self.next_number()
        message = call.again(number)
        if message is None:
            return  # its listener's own clock ends it
        try:
            self.peer.send(message)
        except LocalProtocolError as exc:
            call.fail(exc)
            self._owner.call_ended(call)
            return
        call.number = number
        if call.sent is None:
            call.sent = elapsed()
        self._calls.open(number, call)

    def leave_call(self, call: OpenCall) -> None:
        """Take no more for a call, and tell the worker so."""
        self._calls.close(call.number)
        self.peer.send(Leave(call.number))

    def release_events(self) -> None:
        """Hand out events, those first that came right behind the welcome."""
        early, self._early = self._early or [], None
        try:
            for event in early:
                self._owner.event_came(event.name, event.data)
        except RemoteProtocolError as exc:
            self.peer.close("protocol", str(exc))

    async def heartbeat(self) -> bool:
        """Wait for a sign of life; False if the link breaks."""
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self.peer.ping()
        try:
            await pong
        except ConnectionLostError:
            return False
        finally:
            self._pongs.remove(pong)
        return True

    # -- what the peer hands over (Handler)

    def message_received(self, message: Message | Data) -> None:
        """Act on what the worker sends."""
        if isinstance(message, FOR_A_CALL):
            call = self._calls.get(message.call)
            if call is not None:
                self._deliver(call, message)
        elif isinstance(message, Pong):
            self._settle_pongs(None)
        elif isinstance(message, Event):
            if self._early is None:
                self._owner.event_came(message.name, message.data)
            else:
                self._early.append(message)
        else:
            raise RemoteProtocolError(f"{type(message).__name__} came a second time")

    def writable(self) -> None:
        """Let bulk go on."""
        self.is_writable()

    def peer_gone(self, cause: str, code: str) -> None:
        """Tell who waits that the link is gone; jobs go on."""
        self._settle_pongs(ConnectionLostError(self._name, cause))
        self._owner.link_gone(self, cause, code)

    def _deliver(self, call: OpenCall, message: ForACall) -> None:
        if not (self.has_worked or call.is_routine):
            self.has_worked = isinstance(message, WORK)
        # First the end: if it is a false one, its listener must still be known to be
        # told that the link was closed over it.
        call.deliver(message)
        if isinstance(message, Ended):
            self._calls.close(message.call)
            self._owner.call_ended(call)

    def _settle_pongs(self, error: ConnectionLostError | None) -> None:
        for pong in self._pongs:
            if not pong.done():
                if error is None:
                    pong.set_result(None)
                else:
                    pong.set_exception(error)
