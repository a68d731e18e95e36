"""What is known of a command: its status, its outcome, what failed."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mlepool.client.handles import Handle
from mlepool.client.listening.failures import remote_error
from mlepool.client.listening.intake import Intake
from mlepool.client.listening.output import EvictedError
from mlepool.client.options import CallOptions
from mlepool.client.tables import JobList
from mlepool.errors import CommandError, CommandTimeoutError, JobLostError
from mlepool.wire.answers import FileInfo
from mlepool.wire.messages import Outcome
from mlepool.wire.values import VALUE_TYPES, JobInfo, SyncSummary

__all__ = ["Facts", "Status"]

TAIL_BYTES = 8 * 1024  # bytes of output that an error carries


class Status(enum.StrEnum):
    """What a command is at, and how it ended.

    LOST means that nobody knows: it is an error, never a success.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"


class Facts(Handle):
    """What is known of a command, as far as its messages were received.

    Args:
        job_id: The command's id.
        command: What runs, for people.
        host: Name of the connection.
        options: What the caller asked for.
        intake: Where what arrives is kept.

    Attributes:
        returns: What kind of value it returns, as the worker's annotation says.
        gives_value: True if what it returns is a message, should it yield nothing.
        is_question: True of a call for a value alone, which is no job.
        failure: What failed, where that is on this side.
        tracker: Gives how far a command of this side has come.
        collected: What was brought back before the end, of a run with ``collect``.
        is_local: True for what this side does itself, such as a sync.
        is_to_come: True while the call was not begun: it may never be.
        is_left: True once it was left to go on by itself: it was closed, or its time
            was up.
    """

    def __init__(
        self,
        job_id: str,
        command: str,
        *,
        host: str,
        options: CallOptions,
        intake: Intake,
    ) -> None:
        self.id = job_id
        self.host = host
        self.command = command
        self.options = options
        self.timeout = options.timeout
        self.raise_error = options.raise_error
        self.returns = ""
        self.gives_value = False
        self.is_question = False
        self.intake = intake
        self.failure: Exception | None = None
        self.tracker: Callable[[], Any] | None = None
        self.collected: SyncSummary | None = None
        self.is_local = False
        self.is_to_come = False
        self.is_left = False
        self._began = time.time()
        self._in_line_until = -math.inf

    @property
    def is_run(self) -> bool:
        """True for a process: its output is lines, and it has no value."""
        has_values = self.gives_value or self.intake.yields is not None
        return not (has_values or self.is_local)

    @property
    def place(self) -> int:
        """Where in line it waits to begin, counted from 1; 0 if it does not wait.

        A worker may run a number of jobs at once; those over it are PENDING, and take
        turns. The place follows the line, up to four times a second.
        """
        return self.intake.place

    @property
    def status(self) -> Status:
        """What the command is at, as far as its messages were received."""
        if self.intake.outcome is not None:
            return Status(self.intake.outcome.status)
        if self.intake.problem is not None:
            return Status.LOST
        runs = self.intake.is_accepted and not self.intake.place
        return Status.RUNNING if runs else Status.PENDING

    @property
    def ok(self) -> bool:
        """True if it has ended well."""
        return self.status is Status.SUCCEEDED

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None before the end or without."""
        return self.intake.outcome.exit_code if self.intake.outcome else None

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended it, or None."""
        code = self.exit_code
        return -code if code is not None and code < 0 else None

    @property
    def value(self) -> Any:
        """What the command returned; None before the end."""
        outcome = self.intake.outcome
        if outcome is None or outcome.value is None:
            return None
        kind = VALUE_TYPES.get(self.returns)
        value = outcome.value if kind is None else msgspec.convert(outcome.value, kind)
        if isinstance(value, FileInfo):
            return value.decoded()
        return JobList(value) if kind == list[JobInfo] else value

    def last_message(self) -> Any:
        """Give the value as the one message of what has said nothing else.

        Returns:
            None for no message: there is no value, or values were yielded.
        """
        intake, outcome = self.intake, self.intake.outcome
        yields = intake.yields
        if outcome is None or not (self.gives_value or yields is not None):
            return None
        has_said = yields is not None and yields.has_values
        if has_said or (intake.begin and outcome.yielded):
            return None
        return self.value

    def __str__(self) -> str:
        message = self.last_message()
        return repr(self) if message is None else str(message)

    def _repr_html_(self) -> str | None:
        html = getattr(self.last_message(), "_repr_html_", None)
        return html() if callable(html) else None

    @property
    def error(self) -> Exception | None:
        """What failed, as an exception; None if nothing did (yet)."""
        outcome = self.intake.outcome
        if outcome is None:
            return self.intake.problem
        if self.failure is not None:
            return self.failure
        if outcome.failure is not None:
            return remote_error(outcome.failure, self.host)
        errors = {
            Status.SUCCEEDED: lambda: None,
            Status.TIMED_OUT: lambda: self._timeout_error(stopped=True),
            Status.LOST: lambda: JobLostError(self.id, self.host, cause=outcome.reason),
        }
        return errors.get(self.status, lambda: self._command_error(outcome))()

    @property
    def position(self) -> int:
        """Journal position after the last record that this listener has received.

        What comes before it is (or was) here, whether it was read or not; what comes
        from there on is not: ``attach(id, offset=position)`` begins with it, in any
        process. It moves while output comes in; once the listener is closed or at
        its end, it stays. A record is one read of the job's pipes, so that it may
        end in the middle of a line.
        """
        return self.intake.position

    @property
    def reason(self) -> str:
        """Who or what ended it, where that was not itself; else empty."""
        return self.intake.outcome.reason if self.intake.outcome else ""

    @property
    def duration(self) -> float:
        """Seconds from its start to its end, or to now; not those in line."""
        outcome = self.intake.outcome
        if outcome is not None and outcome.ended:
            return max(0.0, outcome.ended - outcome.started)
        waits = self.place or self.is_to_come
        return 0.0 if waits else max(0.0, time.time() - self._began)

    def is_excused(self, seconds: float) -> bool:
        """Tell if it has waited in line in the last seconds: it could say nothing."""
        since_then = time.monotonic() - self._in_line_until
        waits = bool(self.place) or self.is_to_come
        return waits or since_then < seconds

    @property
    def progress(self) -> Any:
        """How far it has come; None where that is not known.

        Of a sync, a :class:`~mlepool.SyncProgress`. Of a command of the worker's own,
        a :class:`~mlepool.Progress`, as it says itself. Of a program, the latest state
        of a line that it rewrites.
        """
        if self.tracker is not None:
            return self.tracker()
        if self.intake.yields is not None:
            return self.intake.yields.progress
        state = self.intake.output.last_state()
        return self._text(state) if state else None

    @property
    def stdout(self) -> Any:
        """What has come on stdout, as text; bytes for ``encoding=None``.

        Raises:
            EvictedError: If a part of it has left memory; :meth:`read` gets it again.
        """
        return self._held_text("stdout")

    @property
    def stderr(self) -> Any:
        """What has come on stderr; as :attr:`stdout`."""
        return self._held_text("stderr")

    @property
    def output(self) -> Any:
        """What has come on both, in the order it was read; as :attr:`stdout`."""
        return self._held_text(None)

    def _held_text(self, stream: str | None) -> Any:
        output = self.intake.output
        if not output.is_whole:
            raise EvictedError("a part of the output has left memory; use read()")
        return self._text(output.data(stream))

    def _text(self, data: bytes) -> Any:
        if self.options.encoding is None:
            return data
        return data.decode(self.options.encoding, self.options.errors)

    def _tail(self, stream: str | None) -> str:
        data = self.intake.output.data(stream)[-TAIL_BYTES:]
        return data.decode(self.options.encoding or "utf-8", "replace")

    def _timeout_error(self, *, stopped: bool | None) -> CommandTimeoutError:
        # Who attached to it does not know the limit, but how long it took.
        seconds = self.duration if self.timeout is None else self.timeout
        text = self._tail(None)
        return CommandTimeoutError(self, seconds, output=text, stopped=stopped)

    def _command_error(self, outcome: Outcome) -> CommandError:
        return CommandError(
            self,
            host=self.host,
            command=self.command,
            returncode=outcome.exit_code if outcome.exit_code is not None else -1,
            stdout=self._tail("stdout"),
            stderr=self._tail("stderr"),
        )
