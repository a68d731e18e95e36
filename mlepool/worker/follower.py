"""What the supervisor says, done to the jobs; and another supervisor if it is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from mlepool.config import Limits
from mlepool.errors import WorkerError
from mlepool.supervisor.messages import Attend, Greeting, Grown, JobEnded, Spawned
from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobInfo
from mlepool.worker.disk import DiskWatch
from mlepool.worker.job import Job, Status
from mlepool.worker.known import KnownJobs
from mlepool.worker.supervision import Supervision

__all__ = ["Follower"]

logger = logging.getLogger("mlepool.worker")

REOPEN_PAUSE = 1.0  # seconds before a supervisor that could not start is tried again
MAX_REOPEN_PAUSE = 60.0  # seconds; each try doubles the pause
LEAD = 64 * 1024 * 1024  # bytes that a job may be before a reader who keeps up with it


class Follower:
    """The supervisor's observer.

    Args:
        state_dir: The worker's state folder.
        jobs: The jobs.
        disk: Counts the output that could not be kept.
        environment: What jobs get, besides what each one asks for.
        limits: What their journals may take.
        pressed: Called when the disk gets full.
        begun: Called with each job that has waited in line, once it has begun.
        counted: Called once it is known anew which jobs run.

    Attributes:
        line: The line to the supervisor.
    """

    def __init__(
        self,
        state_dir: Path,
        jobs: KnownJobs,
        disk: DiskWatch,
        *,
        environment: dict[bytes, bytes],
        limits: Limits,
        pressed: Callable[[], None],
        begun: Callable[[Job], None],
        counted: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._begun = begun
        self._counted = counted
        self._disk = disk
        self._pressed = pressed
        self._reopening: asyncio.Task[None] | None = None
        self.line = Supervision(state_dir, self, environment=environment, limits=limits)

    def close(self) -> None:
        """Leave the supervisor."""
        if self._reopening is not None:
            self._reopening.cancel()
        self.line.close()

    def attend(self, job: Job) -> None:
        """Tell the supervisor if anybody reads a job, where it is to know."""
        if job.orphan_timeout is not None and job.outcome is None:
            self._tell(job)

    def _look_who_follows(self, job: Job) -> None:
        """Tell the supervisor, where it is news, if a reader keeps up with a job."""
        places = (reader.position for reader in job.readers)
        is_followed = any(job.position - place < LEAD for place in places)
        if is_followed != job.is_followed:
            job.is_followed = is_followed
            self._tell(job)

    def _tell(self, job: Job) -> None:
        is_read = bool(job.readers)
        self.line.attend(Attend(job.id, is_read, is_followed=job.is_followed))

    def greeted(self, greeting: Greeting) -> None:
        """Take over the jobs that the supervisor holds; the others have ended.

        One that it was asked for, and does not hold, is asked for again: it may have
        lost the order, or the start of a job that has ended by now. Nothing is run
        twice, since a job's journal is made but once.
        """
        held = {info.id for info in greeting.jobs}
        for job in self._jobs.current():
            if job.status is Status.PENDING and job.order and job.id not in held:
                self.line.spawn(job.order)
                held.add(job.id)
        self._end_all_but(held)
        for info in greeting.jobs:
            self._adopt(info)
        self._counted()

    def spawned(self, spawned: Spawned) -> None:
        """Note that a job has begun, or could not be."""
        job = self._jobs.get(spawned.id)
        if job is None or job.status is not Status.PENDING:
            return  # a greeting has told of it before
        if spawned.failure is None:
            job.become(Status.RUNNING)
            job.pid, job.started = spawned.pid, spawned.started
            if job.is_queued:
                self._begun(job)
            for reader in job.readers:
                reader.accept()
            return
        if spawned.failure.type_name == "FileExistsError":
            self._jobs.rejoin(job)
            return
        now = time.time()
        failure = spawned.failure
        self._jobs.end(job, Outcome("FAILED", failure=failure, started=now, ended=now))

    def grown(self, grown: Grown) -> None:
        """Note that there is more output."""
        job = self._jobs.get(grown.id)
        if job is not None:
            self._disk.dropped += grown.dropped - job.dropped
            job.position, job.dropped = grown.position, grown.dropped
            job.fresh = grown.fresh
            for reader in tuple(job.readers):
                reader.pump()
            if not job.fresh:
                self._look_who_follows(job)  # it writes much
            job.fresh = b""  # who has not had it reads it later

    def ended(self, ended: JobEnded) -> None:
        """Note that a job has ended."""
        job = self._jobs.get(ended.id)
        if job is not None and job.outcome is None:
            job.fresh = ended.fresh
            self._jobs.end(job, ended.outcome)
            job.fresh = b""

    def pressed(self) -> None:
        """Note that the disk gets full."""
        self._pressed()

    def supervisor_lost(self) -> None:
        """Find it again, or start another: :meth:`greeted` says what became of jobs."""
        self._reopening = asyncio.create_task(self._reopen())

    async def _reopen(self) -> None:
        pause = REOPEN_PAUSE
        while True:
            try:
                await self.line.open()
                return
            except (OSError, WorkerError) as exc:
                logger.error("cannot start a supervisor: %s", exc)
            self._end_all_but(set())
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_REOPEN_PAUSE)

    def _end_all_but(self, held: Collection[str]) -> None:
        """Find in their journals how jobs ended that nobody holds any more."""
        for job in self._jobs.current():
            is_here = job.streams or job.place  # the supervisor has never had it
            if job.outcome is None and not is_here and job.id not in held:
                self._jobs.rejoin(job)

    def _adopt(self, info: JobInfo) -> None:
        """Take over a job that the supervisor holds, known before or not."""
        job = self._jobs.get(info.id)
        if job is None:
            job = self._jobs.make(info.id, info.command)
            self._jobs.add(job)
        if job.status is Status.PENDING:
            job.become(Status.RUNNING)
        if job.is_queued:
            self._begun(job)
        job.pid, job.started, job.cwd = info.pid, info.started, info.cwd
        job.orphan_timeout = info.orphan_timeout
        job.has_terminal, job.files = info.has_terminal, info.files
        job.owner = info.owner or job.owner
        job.is_followed = True
        if job.readers:
            self.attend(job)
        for reader in job.readers:
            reader.accept()
        self.grown(Grown(job.id, info.position, info.dropped))
        if info.outcome is not None and job.outcome is None:
            self._jobs.end(job, info.outcome)
