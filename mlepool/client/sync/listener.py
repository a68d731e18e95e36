"""Listener: the blocking handle of one command."""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from mlepool.client.checks import check_seconds
from mlepool.client.handles import Handle
from mlepool.client.listening.listener import AsyncListener, Status
from mlepool.client.listening.output import EvictedError
from mlepool.client.listening.points import Points
from mlepool.client.portal import Portal, shorten
from mlepool.client.sync.messages import Messages
from mlepool.client.sync.pages import is_live, listener_page
from mlepool.client.sync.views import Viewed
from mlepool.wire.records import STREAM_NAMES
from mlepool.wire.telemetry import JobSample
from mlepool.wire.values import StopReport

__all__ = ["Listener"]


class Listener(Viewed, Handle):
    """The handle of one command: its messages as they come, and its outcome.

    As :class:`~mlepool.AsyncListener`, but its methods block. Usable from any thread.

    The first Ctrl-C while something here waits leaves the job running, says its id,
    and disowns it: ``attach(id)`` finds it again, ``stop(id)`` ends it.

    A notebook shows its status and the last lines of output, and follows both while it
    runs; a value that is a table is shown as one.
    """

    def __init__(self, listener: AsyncListener, portal: Portal) -> None:
        self._async = listener
        self._portal = portal
        this = weakref.ref(self)  # what it holds does not hold it: see _Tie

        def own(error: Exception) -> Any:
            return (this() or Listener(listener, portal))._own(error)

        self._messages = Messages(listener, portal, own=own)

    id = property(lambda self: self._async.id, doc="The job's id.")
    host = property(lambda self: self._async.host, doc="The connection's name.")
    command = property(lambda self: self._async.command, doc="What runs, as text.")
    timeout = property(lambda self: self._async.timeout, doc="Seconds for the whole.")
    raise_error = property(
        lambda self: self._async.raise_error, doc="True to raise what failed."
    )
    ok = property(lambda self: self._async.ok, doc="True if it has ended well.")
    reason = property(lambda self: self._async.reason, doc="Who or what ended it.")
    duration = property(lambda self: self._async.duration, doc="Seconds, so far.")
    collected = property(lambda self: self._async.collected, doc="What was collected.")
    progress = property(
        lambda self: self._async.progress, doc="How far it has come, where known."
    )

    @property
    def status(self) -> Status:
        """What the command is at, as far as its messages were received."""
        return self._async.status

    @property
    def done(self) -> bool:
        """True once the command has ended and its last message was handed out."""
        return self._messages.done

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None before the end or without."""
        return self._async.exit_code

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended it, or None."""
        return self._async.signal

    @property
    def place(self) -> int:
        """Where in line it waits to begin, counted from 1; 0 if it does not wait."""
        return self._async.place

    @property
    def position(self) -> int:
        """Journal position after the last record that this listener has received.

        ``attach(id, offset=position)`` begins with what comes from there on; more is
        said at :attr:`AsyncListener.position`.
        """
        return self._async.position

    @property
    def value(self) -> Any:
        """What the command returned; None before the end."""
        return self._async.value

    @property
    def error(self) -> Exception | None:
        """What failed, as an exception; None if nothing did (yet)."""
        error = self._async.error
        self._own(error)
        return error

    @property
    def metrics(self) -> JobSample | None:
        """What its tree of processes uses, by the worker's latest sample of jobs.

        None before one has come; more is said at :attr:`AsyncListener.metrics`.
        """
        return self._portal.do(lambda: self._async.metrics)

    @property
    def points(self) -> Points:
        """The data points that it has printed so far; they go on coming in.

        Lines of stdout that are ``#name 1 2.5``, or a JSON object with ``metric``. If
        output has left memory before this was first asked for, it waits for the end
        and reads all of it again.
        """
        try:
            return self._portal.do(lambda: self._async.points)
        except EvictedError:
            return self.read_points()

    @property
    def max_interval(self) -> float | None:
        """Longest silence between two messages, seconds; may be set at any time."""
        return self._messages.max_interval

    @max_interval.setter
    def max_interval(self, seconds: float | None) -> None:
        check_seconds("max_interval", seconds)
        self._messages.max_interval = seconds

    @property
    def stdout(self) -> Any:
        """All that has come on stdout, as text; bytes for ``encoding=None``."""
        return self._text("stdout")

    @property
    def stderr(self) -> Any:
        """All that has come on stderr; as :attr:`stdout`."""
        return self._text("stderr")

    @property
    def output(self) -> Any:
        """All that has come on both, in the order it was read; as :attr:`stdout`."""
        return self._text(None)

    def __len__(self) -> int:
        try:
            return self._portal.do(lambda: len(self._async))
        except EvictedError:
            return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: int | slice) -> Any:
        try:
            return self._portal.do(lambda: self._async[index])
        except EvictedError:
            return list(self)[index]

    def __iter__(self) -> Iterator[Any]:
        # No generator passes lines on: that would cost each a sixth more.
        return itertools.chain.from_iterable(self._messages.decoded())

    def __str__(self) -> str:
        return str(self._async).replace("<AsyncListener", "<Listener", 1)

    def _repr_html_(self) -> str:
        value = self._async._repr_html_()
        return value or self._portal.do(lambda: listener_page(self._async))

    def _repr_pretty_(self, printer: Any, cycle: object) -> None:
        printer.text(str(self))  # IPython's prompt: a value, where there is one

    def _is_live(self) -> bool:
        return is_live(self._async)

    def __repr__(self) -> str:
        return repr(self._async).replace("<AsyncListener", "<Listener", 1)

    def next(self) -> Any:
        """Wait for the next message; None at the end, and ever after.

        Raises:
            ListenerTimeoutError: After ``max_interval`` of silence; go on as you like.
            CommandTimeoutError: At the command's deadline.
            CommandError, RemoteError: What failed, if ``raise_error``. This and the
                one before are raised once for each reader, and by every ``wait()``.
            ConnectionLostError: If the link was lost for good.
            Exception: What the iterator given as ``input`` has raised: at the end,
                once.
        """
        return self._messages.next()

    def records(self) -> Iterator[tuple[float, str, bytes]]:
        """Give output as it was read from the process: time, stream, bytes.

        Yields:
            Seconds since the epoch, ``"stdout"`` or ``"stderr"``, and the bytes. Of a
            command that yields, also ``"yielded"``, and what it has, as packed.
        """
        for records in self._messages.batches():
            for record in records:
                if record.data:
                    yield record.time, STREAM_NAMES[record.stream], record.data
        self._messages.done = True

    def wait(self, timeout: float | None = None) -> Self:
        """Wait for the end, whether messages are read or not.

        Args:
            timeout: Seconds to wait; the job goes on after them.

        Raises:
            TimeoutError: If it has not ended by then.
            CommandTimeoutError, CommandError, RemoteError, ConnectionLostError: As
                :meth:`next`.
        """
        if self._async.intake.is_over:
            timeout = None  # no time is too short for what has come
        with self._messages.leaving_alone():
            self._call(self._async.wait(), timeout)
        self._messages.done = True
        return self

    def expect(
        self, pattern: str | re.Pattern[str], timeout: float | None = None
    ) -> re.Match[str]:
        """Read on, at the place of :meth:`next`, until a pattern is found.

        It is looked for in the text that has come since the last match, or since the
        last ``next()``: within a line (a prompt, too) or over several. The latest
        64 Ki characters are looked at. What comes after the match stays, for another
        ``expect()``; ``next()`` goes on with the message after it.

        Args:
            pattern: A regular expression, where ``^`` and ``$`` are a line's edges; a
                compiled one is taken as it is. Bytes with ``encoding=None``.
            timeout: Seconds for the whole; by default any time, and ``max_interval``
                between two messages.

        Raises:
            ListenerTimeoutError: If it is not seen by then; shows the last of the
                text, which another ``expect()`` still has.
            EOFError: If the command ends before.
        """
        return self._messages.expect(pattern, timeout)

    def read(self, stream: str | None = None) -> Any:
        """Wait for the end and give all output, also what has left memory.

        Args:
            stream: ``"stdout"``, ``"stderr"``, or None for both in their order.

        Raises:
            ValueError: If there is no such stream.
        """
        with self._messages.leaving_alone():
            return self._call(self._async.read(stream))

    def read_points(self) -> Points:
        """Wait for the end and give all data points, also of what has left memory."""
        with self._messages.leaving_alone():
            points: Points = self._call(self._async.read_points())
            return points

    def clear_messages(self) -> None:
        """Let go of all messages that have come; ``next()`` goes on with new ones."""
        self._messages.clear()

    def stop(self, signal: str | int = "SIGINT", grace: float = 10.0) -> StopReport:
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
        report = self._call(self._async.stop(signal, grace=grace))
        assert isinstance(report, StopReport)
        return report

    def send_input(self, data: str | bytes, timeout: float | None = None) -> None:
        """Write to the process's stdin; returns when its pipe has taken it.

        The command must have been started with ``stdin=True``, ``input=`` or
        ``tty=True``, by this listener's client or another. Each byte gets there once,
        also over a lost link. After a timeout or Ctrl-C the data still goes on its
        way, as a whole, and what is sent later comes after it.

        Args:
            data: Text, in the listener's encoding, or bytes.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: If it was not taken by then.
            BrokenPipeError: If its stdin is closed, or the job has ended.
            TypeError: If it is neither text nor bytes.
        """
        self._call(self._async.send_input(data), timeout)

    def close_input(self) -> None:
        """Close the process's stdin; twice is fine.

        At a terminal the end-of-file character is typed (twice in the middle of a
        line): what reads there comes to an end, and nothing more can be sent.
        """
        self._call(self._async.close_input())

    def resize(self, rows: int, cols: int) -> None:
        """Give the job's terminal another size; nothing if the job has ended.

        Raises:
            ValueError: If it has no terminal (``tty=True``), or none can be so large.
        """
        self._call(self._async.resize(rows, cols))

    def close(self) -> None:
        """Stop listening; the job goes on. Twice is fine.

        Who waits for more, now or later, is told so by a ClientError.
        """
        self._portal.post(self._shut)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _shut(self) -> None:
        # In one turn of the loop: who waited asks why as soon as no more comes.
        self._messages.end()
        self._async.close()

    def _text(self, stream: str | None) -> Any:
        name = stream or "output"
        try:
            if self._async.intake.is_over:  # it does not change any more
                return getattr(self._async, name)
            return self._portal.do(lambda: getattr(self._async, name))
        except EvictedError:
            return self.read(stream)

    def _call(self, coroutine: Any, timeout: float | None = None) -> Any:
        try:
            return self._portal.call(coroutine, timeout)
        except Exception as exc:
            raise self._own(exc) from None

    def _own(self, error: Any) -> Any:
        """Have an error carry this Listener, not the one it wraps."""
        if getattr(error, "listener", None) is self._async:
            error.listener = self
        shorten(error)
        return error
