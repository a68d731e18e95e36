"""AsyncListener: the handle of one command; its messages, and what steers its job."""

from __future__ import annotations

import functools
import weakref
from types import TracebackType
from typing import Any, Protocol, Self

from mlepool.client.listening.facts import Status
from mlepool.client.listening.feeder import Feeder
from mlepool.client.listening.intake import Intake
from mlepool.client.listening.messages import Messages
from mlepool.client.listening.sources import chunks
from mlepool.client.listening.summary import summary
from mlepool.client.options import CallOptions
from mlepool.errors import JobLostError
from mlepool.signals import signal_name
from mlepool.wire.telemetry import JobSample
from mlepool.wire.values import StopReport

__all__ = ["AsyncListener", "Owner", "Status"]


class Owner(Protocol):
    """What a listener needs of its connection."""

    name: str

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Stop a job."""

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Write to a job's stdin; returns when it has been taken."""

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size."""

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Tell the worker how far it may send."""

    def look(self, listener: AsyncListener) -> None:
        """Ask the worker where the output ends now; nothing without a link."""

    def leave(self, listener: AsyncListener) -> None:
        """Receive no more for a listener."""

    def job_metrics(self, job_id: str) -> JobSample | None:
        """Give what a job uses, as far as that is known."""

    def release(self, job_id: str) -> bool:
        """Own a job no more; False if the worker can't have heard of it yet."""

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Read a job's output again from where the listener began."""


class AsyncListener(Messages):
    """The handle of one command: its messages as they come, and its outcome.

    For ``run`` a message is a line (:class:`~mlepool.Line`), a str with ``stream`` and
    ``end``. For a command that yields, each value is a message, and what it logs
    comes between them as lines of stderr; None is no message. A command that only
    returns a value (also a list) has that value as its one message, and ``str()`` of
    its listener is that of the value.

    ``async for`` starts at the first message each time; ``next()`` has a place of its
    own. The job does not depend on its listener: it goes on when the listener is closed
    or garbage-collected. When a link is lost, the listener goes on over the next one
    where it was: no byte is missing, and none comes twice.

    Cancelling a wait (``asyncio.timeout``, Ctrl-C) cancels the wait only: the job goes
    on, and the listener stays usable.

    Attributes:
        id: The job's id, for ``attach`` and ``stop``.
        host: Name of the connection.
        command: What runs, for people.
        timeout: Seconds for the whole command; None for no limit.
        raise_error: True to raise what failed.
    """

    def __init__(
        self,
        job_id: str,
        command: str,
        options: CallOptions,
        *,
        owner: Owner,
        position: int = 0,
        is_to_come: bool = False,
    ) -> None:
        tie = _Tie(self)
        intake = Intake(options, tie.give_credit, look=tie.look, begin=position)
        super().__init__(
            job_id,
            command,
            options=options,
            host=owner.name,
            is_to_come=is_to_come,
            intake=intake,
        )
        self._owner = owner
        self._feeder: Feeder | None = None

    def __bool__(self) -> bool:
        return True  # a handle, not a container: an empty one is still there

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {summary(self)}>"

    @property
    def metrics(self) -> JobSample | None:
        """What its tree of processes uses, by the worker's latest sample of jobs.

        None before one has come: samples come from the first look at this on, as often
        as the worker takes them (``set_metrics(jobs=...)``, 10 s by default). After
        its end, the last one. Of commands inside the worker there are none.
        """
        return self._owner.job_metrics(self.id)

    async def stop(
        self, signal: str | int = "SIGINT", *, grace: float = 10.0
    ) -> StopReport:
        """Stop the job: its whole tree of processes, with proof.

        Args:
            signal: The first signal, by its name (``"SIGTERM"``, ``"TERM"``) or as
                ``signal.SIGTERM``; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            What was signalled, and what survived; of a job that has ended, its status.

        Raises:
            TypeError, ValueError: If that is no signal.
            LookupError: If it is no job, but a value that was asked for: that comes,
                or is not waited for any more.
        """
        name = signal_name(signal)
        outcome = self.intake.outcome
        if outcome is not None and self.status is not Status.LOST:
            return StopReport(self.id, outcome.status)
        if self.is_question:
            raise LookupError(
                f"{self.command}() is a question and no job that could be stopped; "
                "close() waits for its answer no more"
            )
        return await self._owner.stop_job(self.id, name, grace=grace)

    async def send_input(self, data: str | bytes) -> None:
        """Write to the process's stdin; returns when its pipe has taken it.

        The command must have been started with ``stdin=True``, ``input=`` or
        ``tty=True``, by this listener's client or another. Each byte gets there once,
        also over a lost link. Cancelling this cancels the wait: the data goes on its
        way, as a whole, and what is sent later comes after it.

        Raises:
            BrokenPipeError: If its stdin is closed, or the job has ended.
            TypeError: If it is neither text nor bytes.
        """
        if isinstance(data, str):
            data = data.encode(self.options.encoding or "utf-8")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"input is str or bytes, not {type(data).__name__}")
        await self._made_feeder().send(bytes(data))

    async def close_input(self) -> None:
        """Close the process's stdin; twice is fine.

        At a terminal the end-of-file character is typed (twice in the middle of a
        line): what reads there comes to an end, and nothing more can be sent.
        """
        await self._made_feeder().close()

    async def resize(self, rows: int, cols: int) -> None:
        """Give the job's terminal another size; nothing if the job has ended.

        Raises:
            ValueError: If it has no terminal (``tty=True``), or none can be so large.
        """
        await self._owner.resize_job(self.id, rows, cols)

    def close(self) -> None:
        """Stop listening; the job goes on. Twice is fine.

        Who waits for more, now or later, is told so by a ClientError.
        """
        self._cancel_timer()
        self.intake.close()
        self._owner.leave(self)
        if not self.intake.is_over and not self.is_to_come:
            self.is_left = self._is_shut = True
            self.intake.interrupt()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- within

    def begin(self, owner: Owner, options: CallOptions) -> None:
        """Be the handle of a call that begins now: so far it was of one to come.

        Args:
            owner: Whose call it is.
            options: What the caller asked for; how much to hold was settled before.
        """
        self._owner, self.options = owner, options
        if self._feeder is not None:
            self._feeder.transmit = functools.partial(owner.feed_job, self.id)
        self.timeout, self.raise_error = options.timeout, options.raise_error
        self.is_to_come = False
        self._begin_to_count()
        self.intake.interrupt()

    def again(self) -> AsyncListener:
        """Read the same job again from where this one began."""
        return self._owner.reread(self)

    def release(self, job_id: str) -> bool:
        """Have the connection own the job no more; see its ``release()``."""
        return self._owner.release(job_id)

    def ended(self) -> None:
        """Note that the outcome has come."""
        self._cancel_timer()
        self.stop_feeding()

    def stop_feeding(self) -> None:
        """Take no more from what the process is fed with. Twice is fine."""
        if self._feeder is not None:
            self._feeder.stop()

    def cut_off(self, cause: str) -> None:
        """Note that the job's journal is damaged: there is no way to what follows."""
        text = f"its journal is damaged, as is seen at {self.position}: {cause}"
        self.intake.cut_off(JobLostError(self.id, self.host, cause=text))
        self.close()

    def feed_from(self, source: Any) -> None:
        """Feed the process in the background: all of a source, then the end."""
        self._made_feeder().pour(chunks(source, self.options.encoding or "utf-8"))

    def _made_feeder(self) -> Feeder:
        # Not before somebody writes to its stdin: most never do.
        if self._feeder is None:
            self._feeder = Feeder(functools.partial(self._owner.feed_job, self.id))
        return self._feeder

    def _raise_failure(self) -> None:
        problem = self._feeder.take_problem() if self._feeder is not None else None
        if problem is not None:
            raise problem
        super()._raise_failure()


class _Tie:
    """What tells a listener's owner of it, as long as there is the listener.

    What a listener holds does not hold it: a cycle would keep its output in memory
    until all garbage is collected, and large bytes bring that on late.
    """

    __slots__ = ("_found",)

    def __init__(self, listener: AsyncListener) -> None:
        self._found = weakref.ref(listener)

    def give_credit(self, position: int) -> None:
        listener = self._found()
        if listener is not None:
            listener._owner.give_credit(listener, position)

    def look(self) -> None:
        listener = self._found()
        if listener is not None:
            listener._owner.look(listener)
