"""Calls for a value alone: many at once, over one link after another."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from mlepool.client.links.conversation import Conversation, ForACall, OpenCall, elapsed
from mlepool.client.listening.failures import remote_error
from mlepool.errors import JobLostError, MlepoolError, RemoteProtocolError
from mlepool.wire.codec import encode
from mlepool.wire.messages import Ended, Outcome, Request
from mlepool.wire.telemetry import FOLLOW

__all__ = ["FAST_BULK", "LARGE", "MAX_BULK", "Question", "Questions"]

MAX_BULK = 2 * 1024 * 1024  # bytes under way; enough for 100 MB/s over 20 ms
LARGE = 512 * 1024  # bytes; only over a fast link does anybody send larger requests,
FAST_BULK = 4 * 1024 * 1024  # and there so much is gone as soon, with fewer pauses
UNSENT_NUMBER = 1  # in a message that waits for a link, which gives it its number


class Question:
    """A call whose value is all that is wanted.

    Args:
        message: The request.
        host: The connection's name, for errors.

    Attributes:
        answer: The value, or what went wrong.
    """

    __slots__ = ("_host", "answer", "made", "message", "number", "sent")

    def __init__(self, message: Request, host: str) -> None:
        self.message: Request = message
        self.number = 0
        self.made = elapsed()
        self.sent: float | None = None
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._host = host

    @property
    def is_routine(self) -> bool:
        """True if a connection asks it by itself, on each link anew."""
        return self.message.command == FOLLOW

    def again(self, number: int) -> Request:
        """Make the request for a new link."""
        age = 0.0 if self.sent is None else max(elapsed() - self.sent, 1e-6)
        return msgspec.structs.replace(self.message, call=number, age=age)

    def deliver(self, message: ForACall) -> None:
        """Take the answer.

        Raises:
            RemoteProtocolError: If what came is none.
        """
        if not isinstance(message, Ended):
            kind = type(message).__name__
            raise RemoteProtocolError(f"{kind} came for a call that has no output")
        error = self._error_of(message.outcome)
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(message.outcome.value)
        else:
            self.answer.set_exception(error)

    def fail(self, error: MlepoolError) -> None:
        """Note that no answer will come."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def _error_of(self, outcome: Outcome) -> MlepoolError | None:
        if outcome.status == "SUCCEEDED":
            return None
        if outcome.failure is not None:
            return remote_error(outcome.failure, self._host)
        cause = outcome.reason or f"it ended as {outcome.status[:40]}"
        return JobLostError(self.message.id, self._host, cause=cause)


class Questions:
    """The questions of one connection that were not answered yet.

    Bulk waits its turn here, so that what is small never stands behind much of it.

    Args:
        host: The connection's name, for errors.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._open: dict[OpenCall, None] = {}
        self._conversation: Conversation | None = None
        self._bulk = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def ask(
        self,
        request_id: str,
        name: str,
        arguments: dict[str, Any],
        *,
        size: int,
        cwd: str = "",
    ) -> Any:
        """Send a request and wait for its value; see :meth:`Calls.ask`."""
        if not size:
            return await self._ask(request_id, name, arguments, cwd=cwd)
        await self._room_for(size)
        try:
            return await self._ask(request_id, name, arguments, cwd=cwd)
        finally:
            self._bulk -= size
            self._let_in()

    def link_made(self, conversation: Conversation) -> None:
        """Ask all that is open again, in its order."""
        self._conversation = conversation
        conversation.is_writable = self._let_in
        for question in tuple(self._open):
            conversation.resume(question)
        self._let_in()

    def link_gone(self) -> None:
        """Note that there is no link."""
        self._conversation = None
        for question in self._open:
            question.number = 0

    def fail(self, error: MlepoolError) -> None:
        """Note that no link will come."""
        for question in self._open:
            question.fail(error)
        self._open.clear()
        for _, room in self._waiting:
            if not room.done():
                room.set_exception(error)
        self._waiting.clear()

    def ended(self, question: OpenCall) -> None:
        """Note that an answer has come."""
        self._open.pop(question, None)

    async def _ask(
        self, request_id: str, name: str, arguments: dict[str, Any], *, cwd: str
    ) -> Any:
        conversation = self._conversation
        number = conversation.next_number() if conversation else UNSENT_NUMBER
        request = Request(
            *(number, request_id, name, arguments), is_awaited=False, cwd=cwd
        )
        question = Question(request, self._host)
        if conversation is not None:
            conversation.send(question)
        else:
            encode(request)  # what can't be sent is said now
        self._open[question] = None
        try:
            return await question.answer
        finally:
            self._leave(question)

    def _leave(self, question: Question) -> None:
        """Let go of a question that nobody waits for any more."""
        if question in self._open:
            del self._open[question]
            if question.number and self._conversation is not None:
                self._conversation.leave_call(question)

    async def _room_for(self, size: int) -> None:
        if self._waiting or not self._has_room(size):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, room))
            await self._wait_for(room, size)
        else:
            self._bulk += size

    async def _wait_for(self, room: asyncio.Future[None], size: int) -> None:
        try:
            await room
        except asyncio.CancelledError:
            if room.done() and not room.cancelled() and room.exception() is None:
                self._bulk -= size  # it was let in, and cancelled at once
            self._let_in()
            raise

    def _let_in(self) -> None:
        """Let those in that there is room for, in their order."""
        while self._waiting:
            size, room = self._waiting[0]
            if not room.done():
                if not self._has_room(size):
                    return
                self._bulk += size
                room.set_result(None)
            self._waiting.popleft()

    def _has_room(self, size: int) -> bool:
        most = FAST_BULK if size > LARGE else MAX_BULK
        if self._bulk and self._bulk + size > most:
            return False
        return self._conversation is None or not self._conversation.peer.is_full
