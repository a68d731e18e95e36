"""Jobs that write very much: drained in a thread of their own, so that no other waits.

Nearly all of its time is spent in read(2), writev(2) and the digest, where the loop's
thread can work. It never closes a pipe and never ends a job: what is quiet, or at its
end, is given back, and the loop goes on with it. It uses no relative path: the working
directory is a job's while that is being started.
"""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable

from mlepool.supervisor.job import Job
from mlepool.wire.records import MAX_PAYLOAD

__all__ = ["Floods"]

READ_AT_ONCE = 4  # records in one read: the fewer reads, the less the loop waits
NICENESS = 10  # as nice(1) has it: a tenth of what others get, where all want some
QUIET = 0.01  # seconds without output after which a job is given back

logger = logging.getLogger("mlepool.supervisor")


class Floods:
    """Drains jobs in a thread. Its methods are for the loop's thread.

    While a job is here its pipes and its recorder are the thread's, but for positions.

    Args:
        wake: Called in the other thread once there are jobs to be given back.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._held: dict[str, Job] = {}
        self._wanted: set[str] = set()
        self._returned: list[Job] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def jobs(self) -> list[Job]:
        """Give the jobs that are drained here."""
        with self._changed:
            return list(self._held.values())

    def take(self, job: Job) -> None:
        """Drain a job from now on."""
        with self._changed:
            self._held[job.id] = job
            self._changed.notify_all()
        if self._thread is None:
            run = threading.Thread(target=self._run, name="floods", daemon=True)
            self._thread = run
            run.start()

    def recall(self, job: Job) -> bool:
        """Have a job back at once: within a read and a write, or :data:`QUIET`.

        Returns:
            False if it was not here.
        """
        with self._changed:
            if job.id in self._held:
                self._wanted.add(job.id)
                self._changed.wait_for(lambda: job.id not in self._held)
                self._wanted.discard(job.id)
            is_here = job in self._returned
            if is_here:
                self._returned.remove(job)
            return is_here

    def returned(self) -> list[Job]:
        """Give the jobs that are no more drained here; each of them once."""
        with self._changed:
            returned, self._returned = self._returned, []
            return returned

    def _run(self) -> None:
        _give_way()
        buffers = [memoryview(bytearray(MAX_PAYLOAD)) for _ in range(READ_AT_ONCE)]
        latest: dict[str, float] = {}  # when each has last written something
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
                jobs = list(self._held.values())
            now = time.monotonic()
            latest = {job.id: latest.get(job.id, now) for job in jobs}
            moved = {job.id: _drain(job, buffers) for job in jobs}
            latest.update((job_id, now) for job_id, count in moved.items() if count)
            for job in jobs:
                is_quiet = now - latest[job.id] > QUIET
                if moved[job.id] is None or is_quiet or job.id in self._wanted:
                    self._give_back(job)
            if not any(moved.values()):
                _wait([job for job in jobs if job.id in self._held])

    def _give_back(self, job: Job) -> None:
        with self._changed:
            del self._held[job.id]
            self._returned.append(job)
            self._changed.notify_all()
        self._wake()


def _give_way() -> None:
    """Let a job that is being started, and the loop, have the processor first."""
    if sys.platform == "linux":  # elsewhere it would be all threads that give way
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _drain(job: Job, buffers: list[memoryview]) -> int | None:
    """Move what is there; None if the loop is to see to the job."""
    total = 0
    try:
        for fd in tuple(job.pipes):
            count = job.gulp(fd, buffers)
            if count is None:
                return None
            total += count
    except Exception:
        logger.exception("job %s can't be drained aside", job.id)
        return None
    return total


def _wait(jobs: list[Job]) -> None:
    """Wait until one of them writes, but not long: one may be wanted back."""
    poll = select.poll()
    for job in jobs:
        for fd in tuple(job.pipes):
            poll.register(fd, select.POLLIN)
    poll.poll(QUIET * 1000)
