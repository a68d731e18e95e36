"""Jobs that write very much: each is drained by a process of its own, to its end.

So the loop has nothing to do with them but to pass on how far they are, and the
processor time that they take is not counted as the supervisor's. The processes are
forked: what a digest knows of the output before can't be told in any other way.
"""

import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Callable

from mlepool.supervisor.drainer import CALLED_OFF, drain_aside
from mlepool.supervisor.job import Job
from mlepool.supervisor.notes import Notes
from mlepool.supervisor.timers import Timers
from mlepool.supervisor.waiter import READ, Waiter

__all__ = ["Floods"]

TRY_AGAIN = 0.1  # seconds before another drainer is started in the place of one

logger = logging.getLogger("mlepool.supervisor")


class Floods:
    """Has jobs drained by processes. A job that can't be is given back.

    Args:
        waiter: What waits for sockets; each callback takes nothing.
        timers: What calls us again.
        lock: A descriptor of the state folder's lock.
        grown: Called with a job that has written something.
        ended: Called with a job whose pipes have ended, and are closed.
        unable: Called with a job that has to be drained by the caller.
    """

    def __init__(
        self,
        waiter: Waiter,
        timers: Timers,
        *,
        lock: int,
        grown: Callable[[Job], None],
        ended: Callable[[Job], None],
        unable: Callable[[Job], None],
    ) -> None:
        self._waiter = waiter
        self._timers = timers
        self._lock = lock
        self._grown = grown
        self._ended = ended
        self._unable = unable
        self._lines: dict[str, socket.socket] = {}
        self._notes: dict[str, Notes] = {}
        self._called_off: set[str] = set()

    def take(self, job: Job) -> None:
        """Have a job drained from now on, if that is possible here."""
        if hasattr(os, "splice"):
            notes = Notes.shared()
            notes.position, notes.dropped = job.recorder.position, job.recorder.dropped
            self._notes[job.id] = notes
            self.attend(job)
            self._start(job, notes)
        else:
            self._unable(job)

    def attend(self, job: Job) -> None:
        """Tell a job's drainer, if it has one, whether anybody keeps up with it."""
        if job.id in self._notes:
            self._notes[job.id].is_unread = job.is_unread

    def give_way(self) -> None:
        """Tell drainers that another job has begun or written something just now."""
        for notes in self._notes.values():
            notes.busy = time.monotonic()

    def call_off(self, job: Job) -> None:
        """Have a job drained no more, though somebody holds its pipes open.

        What they hold is still taken; then the job is given to ``ended``.
        """
        self._called_off.add(job.id)
        if job.id in self._lines:
            _call(self._lines[job.id])

    def _start(self, job: Job, notes: Notes) -> None:
        try:
            ours = self._fork(job, notes)
        except OSError as exc:
            logger.error("job %s waits for a drainer: %s", job.id, exc)
            self._start_later(job, notes)
            return
        self._lines[job.id] = ours
        hear = functools.partial(self._hear, job, notes, ours)
        self._waiter.register(ours, READ, hear)
        if job.id in self._called_off:
            _call(ours)

    def _fork(self, job: Job, notes: Notes) -> socket.socket:
        """Start a drainer; returns our end of the line to it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            # Beside us there are threads for fsync(2), and for starts, which wait just
            # now: none holds a lock that a drainer would wait for.
            if os.fork() == 0:
                drain_aside(
                    job.pipes, job.recorder, notes, line=theirs, lock=self._lock
                )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _start_later(self, job: Job, notes: Notes) -> None:
        self._timers.after(TRY_AGAIN, functools.partial(self._start, job, notes))

    def _hear(self, job: Job, notes: Notes, line: socket.socket) -> None:
        is_there = _reads(line)
        job.recorder.catch_up(notes)
        self._grown(job)
        if not is_there:
            self._waiter.unregister(line)
            self._lines.pop(job.id).close()
            self._go_on(job, notes)

    def _go_on(self, job: Job, notes: Notes) -> None:
        """Go on with a job whose drainer is no more."""
        if notes.is_done:
            self._called_off.discard(job.id)
            del self._notes[job.id]
            job.recorder.take_over(notes)
            job.close_pipes()
            self._ended(job)
        elif notes.is_unable:
            del self._notes[job.id]
            self._unable(job)
        else:
            logger.warning("job %s gets another drainer: one has died", job.id)
            self._start_later(job, notes)


def _call(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is just ending, and will be heard of
        line.send(CALLED_OFF)


def _reads(line: socket.socket) -> bool:
    """Read what has come; False at the end."""
    try:
        return bool(line.recv(4096))
    except BlockingIOError:
        return True
    except OSError:  # it was killed with something unread
        return False
