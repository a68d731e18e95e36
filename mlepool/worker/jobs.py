"""What is running and what has been: all jobs of a worker, by id."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

from msgspec import structs

from mlepool.config import Limits, Retention
from mlepool.errors import RemoteProtocolError, WorkerError
from mlepool.supervisor.journal import Journal
from mlepool.supervisor.messages import (
    JOBS_FOLDER,
    Attend,
    Feed,
    Greeting,
    Grown,
    JobEnded,
    Resize,
    Spawn,
    Spawned,
    Stop,
)
from mlepool.wire.messages import Failure, Outcome
from mlepool.wire.records import RecordParser
from mlepool.wire.values import InputAck, JobInfo, StopReport
from mlepool.worker.disk import DiskWatch
from mlepool.worker.job import Job, Reader, Status
from mlepool.worker.registry import Process
from mlepool.worker.retention import Shelf
from mlepool.worker.supervision import Supervision

__all__ = ["JobTable", "check_job_id", "failure_of"]

logger = logging.getLogger("mlepool.worker")

SWEEP_EVERY = 3600.0  # seconds between two looks for jobs to let go of
SWEEP_PAUSE = 5.0  # seconds between them while the disk stays too full
SWEEP_AFTER = 5000  # jobs that have ended since the last look
REOPEN_PAUSE = 1.0  # seconds before a supervisor that could not start is tried again
MAX_REOPEN_PAUSE = 60.0  # seconds; each try doubles the pause
CHECKED = 256 * 1024  # bytes: no output looks like so many records in a row by chance
MAX_RECENT = 256  # ended jobs kept in memory for listings; the rest is on disk
JOB_ID_CHARACTERS = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"
)
MAX_JOB_ID = 64  # characters; it becomes a file's name


class JobTable:
    """All jobs of a worker; the supervisor's observer.

    Args:
        state_dir: The worker's state folder.
        root: Where a relative working directory begins.
        limits: What jobs' journals may take.
        retention: What is kept of jobs that have ended.
    """

    def __init__(
        self, state_dir: Path, *, root: Path, limits: Limits, retention: Retention
    ) -> None:
        self._folder = state_dir / JOBS_FOLDER
        self._root = root
        self._shelf = Shelf(self._folder, retention, keep_free=limits.keep_free)
        self._disk = DiskWatch(self._folder, keep_free=limits.keep_free)
        self._sweeping: asyncio.Task[None] | None = None
        self._wants_sweep = asyncio.Event()
        self._ended = 0
        self._jobs: dict[str, Job] = {}
        self._recent: dict[str, Job] = {}
        self._supervision = Supervision(
            state_dir, self, environment=_base_environment(), limits=limits
        )
        self._reopening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find the supervisor, or start it."""
        await self._supervision.open()
        await self._recall()
        self._sweeping = asyncio.create_task(self._keep_sweeping())

    async def _recall(self) -> None:
        """Know the jobs again that ended before this worker's start."""
        for job_id in await asyncio.to_thread(self._shelf.latest, MAX_RECENT):
            if not self.knows(job_id):
                with contextlib.suppress(LookupError, WorkerError, OSError):
                    self._recent[job_id] = self._load(job_id)

    def close(self) -> None:
        """Leave the jobs to the supervisor."""
        for task in (self._reopening, self._sweeping):
            if task is not None:
                task.cancel()
        self._supervision.close()
        for job in (*self._jobs.values(), *self._recent.values()):
            job.close()

    def listing(self) -> list[JobInfo]:
        """Describe the jobs that run and the latest that have ended."""
        return [job.info() for job in (*self._recent.values(), *self._jobs.values())]

    def find(self, job_id: str) -> Job:
        """Find a job in memory or on disk.

        Raises:
            LookupError: If there is none.
        """
        job = self._jobs.get(job_id) or self._recent.get(job_id)
        return job if job is not None else self._load(job_id)

    def knows(self, job_id: str) -> bool:
        """Tell if there is such a job in memory."""
        return job_id in self._jobs or job_id in self._recent

    def may_be_forgotten(self, age: float) -> bool:
        """Tell if a job that was asked for so many seconds ago may have been let go."""
        return time.time() - age <= self._shelf.horizon

    def check_position(self, job: Job, position: int) -> None:
        """See that a record begins at a position, or that the output ends there.

        Raises:
            ValueError: If not.
        """
        size = min(CHECKED, job.position - position)
        problem = "it is beyond the end" if size < 0 else ""
        if size > 0:
            journal = Journal(self._folder, job.id)
            data = journal.read(position, size)
            journal.close()
            parser = RecordParser(checked=False)
            try:
                parser.feed(data)
            except RemoteProtocolError as exc:
                problem = str(exc)
            if parser.pending and size < CHECKED:
                problem = problem or "what follows is no record"
        if problem:
            text = f"no record of job {job.id} begins at {position}: {problem}"
            raise ValueError(text)

    def start(
        self,
        job_id: str,
        process: Process,
        *,
        timeout: float | None,
        is_awaited: bool,
    ) -> Job:
        """Have a job's process started, as soon as there is a supervisor."""
        job = Job(job_id, process.display, folder=self._folder)
        job.cwd = self._place(process.cwd)
        job.orphan_timeout = process.orphan_timeout
        order = Spawn(
            job_id,
            process.argv,
            process.display,
            job.cwd,
            _encode(process.env),
            stdin=process.stdin,
            timeout=timeout,
            is_awaited=is_awaited,
            orphan_timeout=process.orphan_timeout,
            terminal=process.terminal,
        )
        job.has_terminal = process.terminal is not None
        job.order = order
        with contextlib.suppress(WorkerError):  # there is none just now: greeted() asks
            self._supervision.spawn(order)
        self._jobs[job_id] = job
        return job

    def _place(self, cwd: str | None) -> str:
        if cwd is None:
            return str(self._root)
        return str(self._root / Path(cwd).expanduser())

    def add_reader(self, reader: Reader) -> None:
        """Begin to read a job."""
        job = reader.job
        job.readers.append(reader)
        if len(job.readers) == 1:
            self._attend(job, is_read=True)
        if job.status is not Status.PENDING:
            reader.accept()
            reader.pump()

    def remove_reader(self, reader: Reader) -> None:
        """Read no more; twice is fine."""
        job = reader.job
        if reader in job.readers:
            job.readers.remove(reader)
            if not job.readers:
                self._attend(job, is_read=False)
        self._retire_if_idle(job)

    def _attend(self, job: Job, *, is_read: bool) -> None:
        if job.orphan_timeout is not None and job.outcome is None:
            self._supervision.attend(Attend(job.id, is_read=is_read))

    async def stop(
        self, job_id: str, *, signal: str, grace: float, reason: str
    ) -> StopReport:
        """Stop a job.

        Raises:
            LookupError: If there is no such job.
        """
        job = self.find(job_id)
        if job.outcome is not None and job.status is not Status.LOST:
            return StopReport(job_id, job.outcome.status)
        order = Stop(job_id, signal, grace, reason)
        report = await self._supervision.stop(order)
        if report.status:
            return report
        # The supervisor does not hold it any more: it has ended meanwhile.
        return structs.replace(report, status=job.status.value)

    async def feed(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Write to a job's stdin, as one of those who do.

        Raises:
            LookupError: If there is no such job.
            ValueError: If bytes before these are missing.
            BrokenPipeError: If stdin is closed before all was taken.
        """
        job = self.find(job_id)
        async with job.feeding:
            if job.outcome is None:
                order = Feed(job_id, offset, data, end, writer)
                fed = await self._supervision.feed(order)
                if fed.offset >= offset + len(data):
                    return InputAck(fed.offset, fed.closed)
                if fed.problem:
                    raise ValueError(fed.problem)
        if not data:
            return InputAck(offset, closed=True)  # closing what is closed
        raise BrokenPipeError(errno.EPIPE, f"the stdin of job {job_id} is closed")

    def resize(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size; nothing if the job has ended.

        Raises:
            LookupError: If there is no such job.
            ValueError: If it has no terminal.
        """
        job = self.find(job_id)
        if job.outcome is not None:
            return
        if not job.has_terminal:
            raise ValueError(f"job {job_id} has no terminal: it needs tty=True")
        self._supervision.resize(Resize(job_id, rows, cols))

    # -- what the supervisor says

    def greeted(self, greeting: Greeting) -> None:
        """Take over the jobs that the supervisor holds; the others have ended.

        One that it was asked for, and does not hold, is asked for again: it may have
        lost the order, or the start of a job that has ended by now. Nothing is run
        twice, since a job's journal is made but once.
        """
        held = {info.id for info in greeting.jobs}
        for job in list(self._jobs.values()):
            if job.status is Status.PENDING and job.order and job.id not in held:
                self._supervision.spawn(job.order)
                held.add(job.id)
        self._end_all_but(held)
        for info in greeting.jobs:
            self._adopt(info)

    def spawned(self, spawned: Spawned) -> None:
        """Note that a job has begun, or could not be."""
        job = self._jobs.get(spawned.id)
        if job is None or job.status is not Status.PENDING:
            return  # a greeting has told of it before
        if spawned.failure is None:
            job.become(Status.RUNNING)
            job.pid, job.started = spawned.pid, spawned.started
            for reader in job.readers:
                reader.accept()
            return
        if spawned.failure.type_name == "FileExistsError":
            self._rejoin(job)
            return
        now = time.time()
        failure = spawned.failure
        self._end(job, Outcome("FAILED", failure=failure, started=now, ended=now))

    def grown(self, grown: Grown) -> None:
        """Note that there is more output."""
        job = self._jobs.get(grown.id)
        if job is not None:
            self._disk.dropped += grown.dropped - job.dropped
            job.position, job.dropped = grown.position, grown.dropped
            for reader in tuple(job.readers):
                reader.pump()

    def ended(self, ended: JobEnded) -> None:
        """Note that a job has ended."""
        job = self._jobs.get(ended.id)
        if job is not None and job.outcome is None:
            self._end(job, ended.outcome)

    def pressed(self) -> None:
        """Let go of old jobs: the disk gets full."""
        self._wants_sweep.set()

    def disk(self) -> dict[str, Any]:
        """Say how the disk is that journals are on, for the worker's state."""
        return self._disk.state()

    async def _keep_sweeping(self) -> None:
        loop, wanted_at = asyncio.get_running_loop(), -SWEEP_PAUSE
        while True:
            self._wants_sweep.clear()
            self._ended = 0
            try:
                gone = await asyncio.to_thread(self._shelf.sweep, set(self._jobs))
                for job_id in gone:
                    self._recent.pop(job_id, None)
            except OSError as exc:
                logger.error("cannot let go of old jobs: %s", exc)
            self._disk.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY):
                    await self._wants_sweep.wait()
            await asyncio.sleep(wanted_at + SWEEP_PAUSE - loop.time())
            wanted_at = loop.time()

    def supervisor_lost(self) -> None:
        """Find it again, or start another: :meth:`greeted` says what became of jobs."""
        self._reopening = asyncio.create_task(self._reopen())

    async def _reopen(self) -> None:
        pause = REOPEN_PAUSE
        while True:
            try:
                await self._supervision.open()
                return
            except (OSError, WorkerError) as exc:
                logger.error("cannot start a supervisor: %s", exc)
            self._end_all_but(set())
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_REOPEN_PAUSE)

    def _end_all_but(self, held: set[str]) -> None:
        """Find in their journals how jobs ended that nobody holds any more."""
        for job in list(self._jobs.values()):
            if job.outcome is None and job.id not in held:
                self._rejoin(job)

    def _adopt(self, info: JobInfo) -> None:
        """Take over a job that the supervisor holds, known before or not."""
        job = self._jobs.get(info.id)
        if job is None:
            job = self._jobs[info.id] = Job(info.id, info.command, folder=self._folder)
        if job.status is Status.PENDING:
            job.become(Status.RUNNING)
        job.pid, job.started, job.cwd = info.pid, info.started, info.cwd
        job.orphan_timeout = info.orphan_timeout
        job.has_terminal = info.has_terminal
        if job.readers:
            self._attend(job, is_read=True)
        for reader in job.readers:
            reader.accept()
        self.grown(Grown(job.id, info.position, info.dropped))
        if info.outcome is not None and job.outcome is None:
            self._end(job, info.outcome)

    def _end(self, job: Job, outcome: Outcome) -> None:
        job.become(Status(outcome.status))
        job.position = outcome.end
        job.outcome = outcome
        self._ended += 1
        if self._ended >= SWEEP_AFTER:
            self._wants_sweep.set()
        for reader in tuple(job.readers):
            reader.pump()
        self._retire_if_idle(job)

    def _retire_if_idle(self, job: Job) -> None:
        """Keep only a little of what has ended in memory."""
        if job.outcome is None or job.readers:
            return
        job.close()
        if self._jobs.pop(job.id, None) is not None:
            self._recent[job.id] = job
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]

    def _rejoin(self, job: Job) -> None:
        """Join the job that was started under the same id, and is only on disk."""
        try:
            known = self._load(job.id)
            assert known.outcome is not None
            self._end(job, known.outcome)
        except (LookupError, WorkerError) as exc:
            self._end(job, self._lost(job, str(exc)))

    def _load(self, job_id: str) -> Job:
        """Find a job on disk that nobody holds any more."""
        check_job_id(job_id)
        journal = Journal(self._folder, job_id)
        try:
            head, outcome = journal.head, journal.outcome()
            started, pid = journal.process.started, journal.process.pid
            end = journal.measure() if outcome is None else outcome.end
        finally:
            journal.close()
        job = Job(job_id, head.command, folder=self._folder)
        job.cwd, job.started, job.pid = head.cwd, started, pid
        job.position = end
        job.outcome = outcome or self._lost(job, "its supervisor was killed")
        job.status = Status(job.outcome.status)
        return job

    def _lost(self, job: Job, reason: str) -> Outcome:
        return Outcome("LOST", end=job.position, started=job.started, reason=reason)


def check_job_id(job_id: str) -> None:
    """Check an id from outside: it becomes a file's name.

    Raises:
        LookupError: If it can't be a job's id.
    """
    if not 0 < len(job_id) <= MAX_JOB_ID or not JOB_ID_CHARACTERS.issuperset(job_id):
        raise LookupError(f"{job_id[:80]!r} is not a job id")


def failure_of(exc: BaseException, traceback: str) -> Failure:
    """Make data of an exception."""
    filename = getattr(exc, "filename", None)
    return Failure(
        type(exc).__name__,
        getattr(exc, "strerror", None) or str(exc),
        traceback,
        getattr(exc, "errno", None),
        os.fsdecode(filename) if isinstance(filename, str | bytes) else None,
    )


def _base_environment() -> dict[bytes, bytes]:
    """Give what jobs inherit: the worker's environment, without our settings."""
    inherited = {
        name: value
        for name, value in os.environb.items()
        if not name.startswith(b"MLEPOOL_")
    }
    return {**inherited, b"PYTHONUNBUFFERED": b"1"}


def _encode(env: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
