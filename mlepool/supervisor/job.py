"""One job in the supervisor: its process, pipes, recording and end."""

import errno
import functools
import os
import signal
import termios
import time
from collections.abc import Callable
from pathlib import Path

from mlepool.config import Limits
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.cgroups import Slot
from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.processes import Process, boot_id, members, stamp_of
from mlepool.supervisor.recorder import Recorder
from mlepool.supervisor.spawn import grow_pipe, start
from mlepool.supervisor.stdin import Stdin
from mlepool.supervisor.stop import Stopping
from mlepool.wire.messages import Failure, Outcome
from mlepool.wire.records import MAX_PAYLOAD, STDERR, STDOUT
from mlepool.wire.values import JobInfo

__all__ = ["BOOT_ID", "Job"]

READS_AT_ONCE = 2  # reads of one pipe before others get their turn: under 0.5 ms
LAST_READS = 16  # reads of a pipe that is given up: more than it can hold
FLOOD = 4 * 1024 * 1024  # bytes within a moment that are worth a process
MOMENT = 0.1  # seconds
BUSY = 32 * 1024  # bytes in one read that show a writer worth a larger pipe

BOOT_ID = boot_id()


class Job:
    """A job from its start to its end.

    The journal is made first, then the process: a job that was begun is known.

    Args:
        order: What to start.
        folder: Where journals are.
        environment: What its process gets besides what the order sets.
        limits: What its journal may take.
        disk_size: Bytes of the disk that it is on.
        slot: The control group to start it in; None for none.
        aside: True in a thread with a working directory of its own, beside others.

    Raises:
        FileExistsError: If there is a job with this id already.
        OSError: If the journal can't be written.

    Attributes:
        stdin: What the process reads.
        pipes: Our ends of the pipes still open, with their streams.
        failure: Why no process could be started; None if one was.
        exit_code: Of its first process, once that is reaped; negative for a signal.
        cause: Why it died, where that was somebody else's doing.
        outcome: Set at the end, after it was written to the journal.
        told: When a worker was last told of new output, by the clock that never goes
            back.
        is_news: True while the worker is to be told that it has begun.
        is_aside: True while another process moves its output.
        is_kept: True if no other process can.
        is_unread: True while nobody keeps up with what it writes, as far as is known.
    """

    def __init__(
        self,
        order: Spawn,
        folder: Path,
        environment: dict[bytes, bytes],
        *,
        limits: Limits,
        disk_size: int,
        slot: Slot | None = None,
        aside: bool = False,
    ) -> None:
        self.id = order.id
        self.order = order
        self.started = time.time()
        self.pid = 0
        self.pipes: dict[int, int] = {}
        self.failure: Failure | None = None
        self.exit_code: int | None = None
        self.cause = ""
        self.outcome: Outcome | None = None
        self.stopping: Stopping | None = None
        self.slot = slot
        self.told = 0.0
        self.is_news = False
        self.is_aside = False
        self.is_kept = False
        self.is_unread = False
        self._moment = 0.0
        self._moved = 0
        head = JobHead(
            order.id,
            order.display,
            order.cwd,
            self.started,
            BOOT_ID,
            files=order.files,
            owner=order.owner,
        )
        self.recorder = Recorder(folder, head, limits, disk_size=disk_size)
        self._stamp = stamp_of(order.id, _state_of(folder))
        try:
            whole = {**environment, **order.env, **self._stamp}
            self._start(order, whole, aside=aside)
        except Exception:
            self._undo()
            raise

    def info(self) -> JobInfo:
        """Describe the job to a worker.

        An end that is in the journal already is told by itself, when it may be.
        """
        return JobInfo(
            self.id,
            self.order.display,
            self.pid,
            self.started,
            self.recorder.position,
            None if self.recorder.is_saved else self.outcome,
            self.order.cwd,
            self.recorder.dropped,
            self.order.orphan_timeout,
            self.order.terminal is not None,
            self.order.files,
            owner=self.order.owner,
        )

    def drain(self, fd: int, *, reads: int = READS_AT_ONCE) -> int | None:
        """Move what a pipe holds to the journal.

        Args:
            fd: Our end of the pipe.
            reads: How many times to read from it at most.

        Returns:
            How many bytes; None if the pipe has ended: it is to be closed.
        """
        count = 0
        for _ in range(reads):
            try:
                data = os.read(fd, MAX_PAYLOAD)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                data = b""  # nobody has the terminal open any more
            if not data:
                return None
            count += len(data)
            self.recorder.write(self.pipes[fd], data)
            if len(data) >= BUSY and self.recorder.position < 8 * MAX_PAYLOAD:
                grow_pipe(fd)
            if len(data) < MAX_PAYLOAD:
                break
        return count

    def is_flooding(self, count: int, *, now: float) -> bool:
        """Tell if it writes very much, by what was just read and when.

        A terminal does not: it gives a few kilobytes at a time.
        """
        if now - self._moment > MOMENT:
            self._moment, self._moved = now, 0
        self._moved += count
        return self._moved >= FLOOD and self.order.terminal is None

    def resize(self, rows: int, cols: int) -> None:
        """Give its terminal another size, if it has one; who runs there is told."""
        if self.order.terminal is not None:
            for fd in self.pipes:
                termios.tcsetwinsize(fd, (rows, cols))

    def reaped(self, status: int) -> None:
        """Note the process's wait status."""
        self.exit_code = os.waitstatus_to_exitcode(status)

    def living(self, leaders: Callable[[], list[int]]) -> list[Process]:
        """Find the job's living processes."""
        others = [pid for pid in leaders() if pid != self.pid]
        inside = self.slot.pids() if self.slot is not None else ()
        return members(self._stamp, self.pid, others=others, inside=inside)

    def try_to_end(self) -> bool:
        """End the job if its process is reaped and its pipes have ended.

        Returns:
            True if it has ended now.
        """
        if self.exit_code is None or self.pipes or self.outcome is not None:
            return False
        if self.stopping is not None and not self.stopping.is_over:
            return False
        self._end(self._judge(self.exit_code))
        return True

    def abandon_pipes(self) -> None:
        """Close pipes that a survivor of a stop still holds open."""
        for fd in list(self.pipes):
            self.drain(fd, reads=LAST_READS)
        self.close_pipes()

    def close_pipes(self) -> None:
        """Close the pipes that are open."""
        for fd in self.pipes:
            os.close(fd)
        self.pipes.clear()

    def _judge(self, code: int) -> Outcome:
        status, reason = ("SUCCEEDED" if code == 0 else "FAILED"), self.cause
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

    def _start(
        self, order: Spawn, environment: dict[bytes, bytes], *, aside: bool
    ) -> None:
        try:
            started = start(order, environment, slot=self.slot, aside=aside)
        except (OSError, ValueError, TypeError) as exc:
            self.stdin = Stdin()
            self._fail(exc)
            return
        has_terminal = order.terminal is not None
        self.pid = started.pid
        self.stdin = Stdin(started.stdin, is_terminal=has_terminal)
        self.pipes = {started.stdout: STDOUT}
        if not has_terminal:
            self.pipes[started.stderr] = STDERR
        self.recorder.begin(JobProcess(self.pid, started.born, self.started))

    def _undo(self) -> None:
        """End a process that can't be noted: nobody would know of it."""
        if self.pid:
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the pid is its own
        self.stdin.close()
        self.close_pipes()
        self.recorder.discard()

    def _fail(self, exc: Exception) -> None:
        number = getattr(exc, "errno", None)
        filename = getattr(exc, "filename", None)
        text = getattr(exc, "strerror", None) or str(exc)
        name = os.fsdecode(filename) if filename is not None else None
        self.failure = Failure(type(exc).__name__, text, "", number, name)
        self.recorder.begin(JobProcess(0, (0, 0), self.started))
        now = time.time()
        self._end(
            Outcome("FAILED", failure=self.failure, started=self.started, ended=now)
        )

    def _end(self, outcome: Outcome) -> None:
        self.outcome = self.recorder.end(outcome)


@functools.lru_cache(maxsize=1)
def _state_of(folder: Path) -> Path:
    """Give the state folder: the same object for each job, whose hash is known."""
    return folder.parent
