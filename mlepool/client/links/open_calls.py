"""The calls that have not ended, on one link after another."""

from __future__ import annotations

from mlepool.client.links.conversation import Call, Conversation
from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import MlepoolError
from mlepool.wire.codec import encode
from mlepool.wire.messages import Attach, Credit, Look, Request

__all__ = ["OpenCalls"]

UNSENT_NUMBER = 1  # in a message that waits for a link, which gives it its number


class OpenCalls:
    """The calls of one connection's listeners. Each new link is told of all of them.

    Attributes:
        unsent: The ids of jobs that the worker can't have heard of yet.
    """

    def __init__(self) -> None:
        self.unsent: set[str] = set()
        self._calls: dict[AsyncListener, Call] = {}
        self._conversation: Conversation | None = None

    @property
    def has_link(self) -> bool:
        """True while there is a link."""
        return self._conversation is not None

    def link_made(self, conversation: Conversation) -> None:
        """Take up all calls on a new link, from where each has come to."""
        self._conversation = conversation
        for listener, call in list(self._calls.items()):
            if listener.intake.is_over:
                del self._calls[listener]  # we gave up; the worker ends it by itself
            else:
                conversation.resume(call)
            if call.sent is not None:
                self.unsent.discard(listener.id)

    def link_gone(self) -> None:
        """Note that there is no link."""
        self._conversation = None
        for call in self._calls.values():
            call.number = 0

    def fail(self, error: MlepoolError) -> None:
        """Note that no link will come: nothing more comes for anybody."""
        for listener in tuple(self._calls):
            listener.intake.fail(error)
            listener.ended()
        self._calls.clear()

    def next_number(self) -> int:
        """Give the number of the next call."""
        if self._conversation is None:
            return UNSENT_NUMBER
        return self._conversation.next_number()

    def send(self, message: Request | Attach) -> Call:
        """Send what asks for a call, or have it wait for a link; :meth:`enter` it then.

        Raises:
            LocalProtocolError: If it can't be sent.
        """
        call = Call(message)
        if self._conversation is not None:
            self._conversation.send(call)
        else:
            encode(message)  # what can't be sent is said now
            if call.is_unsent_request:
                self.unsent.add(message.id)
        return call

    def enter(self, listener: AsyncListener, call: Call) -> None:
        """Know whose call it is, before anything comes for it."""
        call.listener = listener
        self._calls[listener] = call

    def ended(self, listener: AsyncListener) -> None:
        """Note that a call's end has come."""
        self._calls.pop(listener, None)

    def leave(self, listener: AsyncListener) -> bool:
        """Receive no more for a listener; what was not sent yet never is.

        Returns:
            True if its job does not begin because of that.
        """
        call = self._calls.pop(listener, None)
        if call is None:
            return False
        if call.number and self._conversation is not None:
            self._conversation.leave_call(call)
        if call.is_unsent_request:
            self.unsent.discard(listener.id)
        return call.is_unsent_request

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Tell the worker how far it may send; a new link is told by itself."""
        call = self._calls.get(listener)
        if call is not None and call.number and self._conversation is not None:
            self._conversation.peer.send(Credit(call.number, position))

    def look(self, listener: AsyncListener) -> None:
        """Ask the worker where a job's output ends now; nothing without a link."""
        call = self._calls.get(listener)
        if call is not None and call.number and self._conversation is not None:
            self._conversation.peer.send(Look(call.number))
