"""One job in the supervisor: its process, pipes, journal and end."""

import errno
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from mlepool.supervisor.journal import JobHead, JobProcess, JournalWriter
from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.processes import Process, boot_id, members
from mlepool.supervisor.spawn import grow_pipe, start
from mlepool.supervisor.stop import Stopping
from mlepool.wire.messages import Failure, Outcome
from mlepool.wire.records import MAX_PAYLOAD, STDERR, STDOUT
from mlepool.wire.values import JobInfo

__all__ = ["Job"]

READS_AT_ONCE = 8  # reads of one pipe before others get their turn
BUSY = 32 * 1024  # bytes in one read that show a writer worth a larger pipe
MAX_PENDING_INPUT = 1024 * 1024  # bytes of stdin held for a process that reads slowly

BOOT_ID = boot_id()

logger = logging.getLogger("mlepool.supervisor")


class Job:
    """A job from its start to its end.

    The journal is made first, then the process: a job that was begun is known.

    Args:
        order: What to start.
        folder: Where journals are.
        environment: What its process gets besides what the order sets.

    Raises:
        FileExistsError: If there is a job with this id already.
        OSError: If the journal can't be written.

    Attributes:
        pipes: Our ends of the pipes still open, with their streams.
        failure: Why no process could be started; None if one was.
        outcome: Set at the end, after it was written to the journal.
        is_saved: True once the journal has the end.
    """

    def __init__(
        self, order: Spawn, folder: Path, environment: dict[bytes, bytes]
    ) -> None:
        self.id = order.id
        self.command = order.display
        self.cwd = order.cwd
        self.timeout = order.timeout
        self.started = time.time()
        self.pid = 0
        self.stdin = -1
        self.pipes: dict[int, int] = {}
        self.failure: Failure | None = None
        self.outcome: Outcome | None = None
        self.stopping: Stopping | None = None
        self._status: int | None = None
        self._input = bytearray()
        self._input_ends = False
        self._fed = 0
        self.is_saved = False
        self._dropping = False
        head = JobHead(order.id, order.display, order.cwd, self.started, BOOT_ID)
        self._journal = JournalWriter(folder, head)
        try:
            self._start(order, environment)
        except OSError:
            self._undo()
            raise

    @property
    def position(self) -> int:
        """Journal bytes written."""
        return self._journal.position

    @property
    def fed(self) -> int:
        """Stdin bytes that the process has taken."""
        return self._fed - len(self._input)

    @property
    def wants_to_feed(self) -> bool:
        """True while stdin bytes wait for the process."""
        return self.stdin >= 0 and (bool(self._input) or self._input_ends)

    def info(self) -> JobInfo:
        """Describe the job to a worker."""
        return JobInfo(
            self.id,
            self.command,
            self.pid,
            self.started,
            self.position,
            self.outcome,
            self.cwd,
        )

    def drain(self, fd: int) -> bool:
        """Move what a pipe holds to the journal.

        Returns:
            False if the pipe has ended; it is closed then.
        """
        for _ in range(READS_AT_ONCE):
            try:
                data = os.read(fd, MAX_PAYLOAD)
            except BlockingIOError:
                return True
            if not data:
                os.close(fd)
                del self.pipes[fd]
                return False
            self._write(self.pipes[fd], data)
            if len(data) >= BUSY and self.position < 8 * MAX_PAYLOAD:
                grow_pipe(fd)
            if len(data) < MAX_PAYLOAD:
                return True
        return True

    def _write(self, stream: int, data: bytes) -> None:
        try:
            self._journal.append(stream, data, time=time.time())
        except OSError as exc:
            # A full disk must not stop the job: its output is dropped and counted,
            # and readers are told how much.
            self._journal.skip(stream, len(data))
            if not self._dropping:
                logger.error("job %s: output is dropped: %s", self.id, exc)
            self._dropping = True

    def feed(self, offset: int, data: bytes, *, end: bool) -> None:
        """Take bytes for stdin; those that came before are passed over.

        Nothing is taken once stdin is closed.

        Raises:
            ValueError: If bytes before them are missing, or too many wait.
        """
        if self.stdin < 0:
            return
        if offset > self._fed:
            raise ValueError(f"stdin is at {self._fed}, not at {offset}")
        new = data[self._fed - offset :]
        if len(self._input) + len(new) > MAX_PENDING_INPUT:
            raise ValueError("the process does not read its stdin")
        self._fed += len(new)
        self._input += new
        self._input_ends = self._input_ends or end
        self.write_input()

    def write_input(self) -> None:
        """Write what stdin takes now; close it at the end or when nobody reads."""
        try:
            while self._input:
                del self._input[: os.write(self.stdin, self._input)]
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.EPIPE:
                raise
            self._input_ends = True
        if self._input_ends:
            self.close_input()

    def close_input(self) -> None:
        """Close stdin; what waited was not taken. Twice is fine."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1
        self._fed -= len(self._input)
        self._input.clear()

    def reaped(self, status: int) -> None:
        """Note the process's wait status."""
        self._status = status
        self.close_input()

    def living(self, leaders: Callable[[], list[int]]) -> list[Process]:
        """Find the job's living processes."""
        others = [pid for pid in leaders() if pid != self.pid]
        return members(self.id, self.pid, others=others)

    def try_to_end(self) -> bool:
        """End the job if its process is reaped and its pipes have ended.

        Returns:
            True if it has ended now.
        """
        if self._status is None or self.pipes or self.outcome is not None:
            return False
        if self.stopping is not None and not self.stopping.is_over:
            return False
        self._end(self._judge(os.waitstatus_to_exitcode(self._status)))
        return True

    def abandon_pipes(self) -> None:
        """Close pipes that a survivor of a stop still holds open."""
        for fd in list(self.pipes):
            self.drain(fd)
        for fd in list(self.pipes):
            os.close(fd)
        self.pipes.clear()

    def _judge(self, code: int) -> Outcome:
        status, reason = ("SUCCEEDED" if code == 0 else "FAILED"), ""
        if self.stopping is not None:
            reason = self.stopping.reason
            status = "TIMED_OUT" if reason == "timeout" else "STOPPED"
        return Outcome(
            status,
            exit_code=code,
            started=self.started,
            ended=time.time(),
            reason=reason,
        )

    def _start(self, order: Spawn, environment: dict[bytes, bytes]) -> None:
        try:
            started = start(order, environment)
        except (OSError, ValueError, TypeError) as exc:
            self._fail(exc)
            return
        self.pid, self.stdin = started.pid, started.stdin
        self.pipes = {started.stdout: STDOUT, started.stderr: STDERR}
        self._journal.begin(JobProcess(self.pid, started.born, self.started))

    def _undo(self) -> None:
        """End a process that can't be noted: nobody would know of it."""
        if self.pid:
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the pid is its own
        self.close_input()
        for fd in self.pipes:
            os.close(fd)
        self._journal.discard()

    def _fail(self, exc: Exception) -> None:
        number = getattr(exc, "errno", None)
        filename = getattr(exc, "filename", None)
        text = getattr(exc, "strerror", None) or str(exc)
        name = os.fsdecode(filename) if filename is not None else None
        self.failure = Failure(type(exc).__name__, text, "", number, name)
        self._journal.begin(JobProcess(0, (0, 0), self.started))
        now = time.time()
        self._end(
            Outcome("FAILED", failure=self.failure, started=self.started, ended=now)
        )

    def _end(self, outcome: Outcome) -> None:
        outcome = self._journal.complete(outcome)
        try:
            self._journal.finish(outcome)
            self.is_saved = True
        except OSError as exc:
            logger.error("job %s: its end can't be written: %s", self.id, exc)
        self.outcome = outcome
