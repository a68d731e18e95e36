"""The jobs of a worker, by id: those that run, the latest that ended, those on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import structs

from mlepool.errors import RemoteProtocolError, WorkerError
from mlepool.supervisor.journal import Journal
from mlepool.wire.messages import Outcome
from mlepool.wire.records import RecordParser
from mlepool.wire.values import JobInfo
from mlepool.worker.job import Job, Status

__all__ = ["KnownJobs", "check_job_id"]

CHECKED = 256 * 1024  # bytes: no output looks like so many records in a row by chance
MAX_RECENT = 256  # ended jobs kept in memory for listings; the rest is on disk
JOB_ID_CHARACTERS = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"
)
MAX_JOB_ID = 64  # characters; it becomes a file's name
KILLED = "its supervisor was killed"
MAX_MESSAGE = 500  # characters of an error in a listing


class KnownJobs:
    """All jobs of a worker, and how they end.

    Args:
        folder: Where journals are.
        ended: Called with each job that has ended.

    Attributes:
        changed: Called after each beginning and end of a job.
    """

    def __init__(self, folder: Path, *, ended: Callable[[Job], None]) -> None:
        self._folder = folder
        self._ended = ended
        self.changed: Callable[[], None] = lambda: None
        self._jobs: dict[str, Job] = {}
        self._recent: dict[str, Job] = {}

    def make(self, job_id: str, command: str) -> Job:
        """Make a job that is not known yet; :meth:`add` it then."""
        return Job(job_id, command, folder=self._folder)

    def add(self, job: Job) -> None:
        """Know a job from now on."""
        self._jobs[job.id] = job
        self.changed()

    def get(self, job_id: str) -> Job | None:
        """Find a job that runs, or is read."""
        return self._jobs.get(job_id)

    def current(self) -> list[Job]:
        """Give the jobs that run, or are read."""
        return list(self._jobs.values())

    def find(self, job_id: str) -> Job:
        """Find a job in memory or on disk.

        Raises:
            LookupError: If there is none.
        """
        job = self._jobs.get(job_id) or self._recent.get(job_id)
        return job if job is not None and not job.is_light else self._load(job_id)

    def knows(self, job_id: str) -> bool:
        """Tell if there is such a job in memory."""
        return job_id in self._jobs or job_id in self._recent

    def listing(self) -> list[JobInfo]:
        """Describe the jobs that run and the latest that have ended."""
        return [_brief(one) for one in (*self._recent.values(), *self._jobs.values())]

    def recall(self, job_ids: Iterable[str]) -> None:
        """Know jobs again that ended before this worker's start."""
        for job_id in job_ids:
            if not self.knows(job_id):
                with contextlib.suppress(LookupError, WorkerError, OSError):
                    job = self._load(job_id)
                    job.lighten()
                    self._recent[job_id] = job

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that were let go of."""
        for job_id in job_ids:
            self._recent.pop(job_id, None)

    def close(self) -> None:
        """Close the journals' files."""
        for job in (*self._jobs.values(), *self._recent.values()):
            job.close()

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

    def end(self, job: Job, outcome: Outcome) -> None:
        """End a job."""
        job.become(Status[outcome.status])
        job.position = outcome.end
        job.outcome = outcome
        for reader in tuple(job.readers):  # first of all: who waits is on the way
            reader.pump()
        self._ended(job)
        self.changed()
        self.retire_if_idle(job)

    def retire_if_idle(self, job: Job) -> None:
        """Keep only a little of what has ended in memory."""
        if job.outcome is None or job.readers:
            return
        job.close()
        if self._jobs.pop(job.id, None) is not None:
            job.lighten()
            self._recent[job.id] = job
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]

    def rejoin(self, job: Job) -> None:
        """Join the job that was started under the same id, and is only on disk."""
        try:
            known = self._load(job.id)
            assert known.outcome is not None
            self.end(job, known.outcome)
        except (LookupError, WorkerError) as exc:
            self.end(job, self._lost(job, str(exc)))

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
        job.files, job.owner = head.files, head.owner
        job.streams, job.is_on_disk = head.streams, outcome is not None
        job.position = end
        keeper = "its worker process has ended" if head.streams else KILLED
        job.outcome = outcome or self._lost(job, keeper)
        job.status = Status(job.outcome.status)
        return job

    def _lost(self, job: Job, reason: str) -> Outcome:
        return Outcome("LOST", end=job.position, started=job.started, reason=reason)


def _brief(job: Job) -> JobInfo:
    """Describe a job among many: they have to go into one frame."""
    info = job.info()
    if not job.streams or info.outcome is None:
        return info
    failure = info.outcome.failure
    if failure is not None:
        message = failure.message[:MAX_MESSAGE]
        failure = structs.replace(failure, message=message, traceback="")
    outcome = structs.replace(info.outcome, value=None, failure=failure)
    return structs.replace(info, outcome=outcome)


def check_job_id(job_id: str) -> None:
    """Check an id from outside: it becomes a file's name.

    Raises:
        LookupError: If it can't be a job's id.
    """
    if not 0 < len(job_id) <= MAX_JOB_ID or not JOB_ID_CHARACTERS.issuperset(job_id):
        raise LookupError(f"{job_id[:80]!r} is not a job id")
