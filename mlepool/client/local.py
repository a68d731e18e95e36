"""Commands that run here, on the client, with a Listener like any other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec

from mlepool.client.ids import new_job_id
from mlepool.client.listening.jobless import Jobless
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions
from mlepool.client.owned import Echo
from mlepool.errors import (
    ClientError,
    ConnectionClosedError,
    ConnectionLostError,
)
from mlepool.wire.messages import Outcome
from mlepool.wire.records import STDOUT, Record
from mlepool.wire.values import StopReport

__all__ = ["UNBOUNDED", "LocalJob", "Work"]

logger = logging.getLogger("mlepool.client")

UNBOUNDED = 2**62  # bytes; nobody else has the messages, so none may leave memory
CANCEL_LIMIT = 3.0  # seconds that a cancelled call waits until its work has ended

Work = Callable[["LocalJob"], Awaitable[Any]]


class LocalJob(Jobless):
    """A command that runs here: its listener's owner.

    It begins when it is made, and runs in a task of its own, whether somebody listens
    or not.

    Args:
        host: Name of the connection that it works over.
        command: What it does, for people.
        work: Does it: given this job, to tell of its messages; what it returns is the
            listener's value, and what it raises its error.
        options: The client's options of the call.
        memory: Bytes of messages to hold; the oldest are let go, for good.
        listener: Its handle, if that was made before; ``memory`` was settled then.

    Attributes:
        name: As ``host``.
        listener: Its handle.
        value: What has come of it so far: the listener's value should it fail.
    """

    def __init__(
        self,
        host: str,
        command: str,
        work: Work,
        *,
        options: CallOptions,
        memory: int = UNBOUNDED,
        listener: AsyncListener | None = None,
    ) -> None:
        self.name = host
        self.value: Any = None
        options = msgspec.structs.replace(options, memory=memory)
        if listener is None:
            listener = AsyncListener(new_job_id(), command, options, owner=self)
        else:
            listener.command = command
            listener.begin(self, options)
        self.listener = listener
        self.listener.is_local = True
        self.listener.intake.accepted()
        self._began = time.time()
        self._ending = ""  # the status that a cancelled task ends with
        self._is_held = False
        self._late = ""  # the same, where that came while it was held
        self._timer: asyncio.TimerHandle | None = None
        if options.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(options.timeout, self._end, "TIMED_OUT")
        self._task = asyncio.create_task(self._run(work))
        self._task.add_done_callback(self._has_run)

    @property
    def is_over(self) -> bool:
        """True once it has ended."""
        return self._task.done()

    def say(self, lines: Iterable[str]) -> None:
        """Give messages to who listens: lines, without their newlines."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        if data:
            self.listener.intake.made([Record(time.time(), STDOUT, data)])

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Run to the end, from here on: what is done within can't be undone.

        If that fails, it can be stopped again.

        Raises:
            CancelledError: If it was to stop already.
        """
        if self._ending:
            raise asyncio.CancelledError
        self._is_held = True
        try:
            yield
        except BaseException:
            self._is_held = False
            raise

    def go_on(self) -> None:
        """Begin something that can be stopped again.

        Raises:
            CancelledError: If it was to stop since it was held.
        """
        self._is_held = False
        if self._late:
            self._ending = self._late
            raise asyncio.CancelledError

    async def stop(self) -> None:
        """End it, and wait until it has put away what it had begun."""
        self._end("STOPPED")
        await asyncio.wait([self._task])

    async def finish(self, echo: Echo) -> AsyncListener:
        """Wait for the end as a call does; cancelled, it stops the work."""
        try:
            if self.listener.options.echo_response:
                async for message in self.listener:
                    echo(message)
            return await self.listener.wait()
        except asyncio.CancelledError:
            self._end("STOPPED")
            await asyncio.wait([self._task], timeout=CANCEL_LIMIT)
            raise

    # -- what the listener needs (its Owner)

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Stop it."""
        began = time.monotonic()
        await self.stop()
        seconds = time.monotonic() - began
        return StopReport(job_id, self.listener.status, seconds=seconds)

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Refuse input."""
        raise BrokenPipeError(f"{self.listener.command!r} takes no input")

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Refuse a size."""
        raise ValueError(f"{self.listener.command!r} has no terminal")

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Refuse: only its listener has had its messages.

        Raises:
            LookupError: Always.
        """
        raise LookupError(f"the messages of {listener.command!r} were let go")

    # -- within

    def _end(self, status: str) -> None:
        if self._is_held:
            self._late = self._late or status
        elif not (self._task.done() or self._ending):
            self._ending = status
            self._task.cancel()

    async def _run(self, work: Work) -> None:
        outcome = Outcome("FAILED")
        try:
            value = await work(self)
            outcome = Outcome("SUCCEEDED", value=value)
        except asyncio.CancelledError:
            outcome = Outcome(self._ending or "STOPPED", value=self.value)
            self.listener.failure = self._stop_error()
            if not self._ending:
                raise
        except ConnectionLostError as exc:
            self.listener.intake.fail(exc)
        except ConnectionClosedError as exc:  # it was lost, and this asked after that
            self.listener.intake.fail(ConnectionLostError(self.name, str(exc)))
        except Exception as exc:
            # The top of a task: whatever it was, who listens is told.
            logger.debug("%s", "".join(traceback.format_exception(exc)))
            self.listener.failure = exc
            outcome = Outcome("FAILED", value=self.value)
        finally:
            self._ended(outcome)

    def _has_run(self, task: asyncio.Task[None]) -> None:
        if not self.listener.intake.is_over:  # cancelled before it had begun
            self.listener.failure = self._stop_error()
            self._ended(Outcome(self._ending or "STOPPED"))

    def _stop_error(self) -> Exception | None:
        if self._ending == "TIMED_OUT":
            return None  # the listener's own
        return ClientError(f"{self.listener.command!r} was stopped")

    def _ended(self, outcome: Outcome) -> None:
        if self._timer is not None:
            self._timer.cancel()
        intake = self.listener.intake
        times = {"started": self._began, "ended": time.time()}
        intake.ended(msgspec.structs.replace(outcome, end=intake.received, **times))
        self.listener.ended()
