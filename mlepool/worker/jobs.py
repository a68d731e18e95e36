"""All jobs of a worker: started, found, read, stopped and fed here."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from mlepool.config import Limits, Retention
from mlepool.supervisor.messages import JOBS_FOLDER, Feed, Resize, Spawn, Stop
from mlepool.wire.values import InputAck, JobInfo, StopReport
from mlepool.worker.custom.tasks import Tasks
from mlepool.worker.environment import base_environment
from mlepool.worker.follower import Follower
from mlepool.worker.job import Job, Status
from mlepool.worker.known import KnownJobs
from mlepool.worker.queue.gpus import GpuDriver, NvmlDriver
from mlepool.worker.queue.news import first_in_line
from mlepool.worker.queue.slots import Wish, client_of
from mlepool.worker.queue.turns import Host, Queue
from mlepool.worker.reader import Reader
from mlepool.worker.registry import Process
from mlepool.worker.sweeper import Sweeper

__all__ = ["JobTable"]


class JobTable:
    """All jobs of a worker, for its links and commands.

    Args:
        state_dir: The worker's state folder.
        root: Where a relative working directory begins.
        limits: What jobs' journals may take.
        retention: What is kept of jobs that have ended.
        max_concurrent: How many may run at once; None for any number.
        gpus: Tells of GPUs; NVIDIA's driver by default.
        tell: Told how queue (``slots=``) and ``disk=`` are now: for the worker's state.

    Attributes:
        tasks: The jobs that run inside the worker.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        root: Path,
        limits: Limits,
        retention: Retention,
        max_concurrent: int | None = None,
        gpus: GpuDriver | None = None,
        tell: Callable[..., None] = lambda **state: None,
    ) -> None:
        folder = state_dir / JOBS_FOLDER
        self._root = root
        self._jobs = KnownJobs(folder, ended=self._ended)
        self._note_end: Callable[[Job], None] = lambda job: None
        self._sweeper = Sweeper(
            *(folder, self._jobs),
            limits=limits,
            retention=retention,
            tell=lambda disk: tell(disk=disk),
        )
        self._follower = Follower(
            state_dir,
            self._jobs,
            self._sweeper.disk,
            environment=base_environment(),
            limits=limits,
            pressed=self._sweeper.hurry,
            begun=lambda job: self._queue.begun(job),
            counted=lambda: self._queue.recount(),
        )
        self.tasks = Tasks(
            folder,
            self._jobs,
            limits=limits,
            grown=self._follower.grown,
            pressed=self._sweeper.hurry,
        )
        self._queue = Queue(
            *(state_dir, folder, self._jobs),
            limit=max_concurrent,
            driver=gpus or NvmlDriver(os.environ.get("CUDA_VISIBLE_DEVICES")),
            host=Host(
                self._launch,
                lambda: self._follower.line.is_up,
                lambda slots: tell(slots=slots),
            ),
        )

    async def open(self) -> None:
        """Find the supervisor, or start it; then begin what waits, and may."""
        self._queue.load()
        await self._follower.line.open()
        self._queue.open()
        await self._sweeper.open()

    def close(self) -> None:
        """Leave the jobs to the supervisor, and those that wait to the next worker."""
        self._queue.close()
        self._sweeper.close()
        self._follower.close()
        self._jobs.close()

    def reconfigure(self, limits: Limits, retention: Retention) -> None:
        """Keep to other limits: old jobs from now on, new ones from their start on."""
        self._sweeper.change(limits, retention)
        self._follower.line.change_limits(limits)
        self.tasks.limits = limits

    def set_max_concurrent(self, limit: int | None) -> None:
        """Change how many jobs may run at once; None for any number.

        More begin at once if it is raised; those that run are let be if it is lowered.
        """
        self._queue.set_limit(limit)

    def leaders(self) -> dict[str, int]:
        """Give the first process of each job that runs as one, by the job's id."""
        running = [job for job in self._jobs.current() if job.outcome is None]
        return {job.id: job.pid for job in running if job.pid}

    def is_busy(self) -> bool:
        """Tell if any job has not ended yet."""
        return any(job.outcome is None for job in self._jobs.current())

    def on_change(self, note: Callable[[], None]) -> None:
        """Have a function called after each beginning and end of a job."""
        self._jobs.changed = note

    def on_end(self, note: Callable[[Job], None]) -> None:
        """Have a function called with each job that has ended."""
        self._note_end = note

    def listing(self) -> list[JobInfo]:
        """Describe the jobs that run or wait, and the latest that have ended.

        Of those that wait as many as go into one answer, the next ones first.
        """
        self._queue.count_places()
        return first_in_line(self._jobs.listing())

    def find(self, job_id: str) -> Job:
        """Find a job in memory or on disk.

        Raises:
            LookupError: If there is none.
        """
        return self._jobs.find(job_id)

    def knows(self, job_id: str) -> bool:
        """Tell if there is such a job in memory."""
        return self._jobs.knows(job_id)

    def may_be_forgotten(self, age: float) -> bool:
        """Tell if a job that was asked for so many seconds ago may have been let go."""
        return self._sweeper.may_be_forgotten(age)

    def check_position(self, job: Job, position: int) -> None:
        """See that a record begins at a position, or that the output ends there.

        Raises:
            ValueError: If not.
        """
        self._jobs.check_position(job, position)

    def disk(self) -> dict[str, Any]:
        """Say how the disk is that journals are on, for the worker's state."""
        return self._sweeper.disk.state()

    def start(
        self,
        job_id: str,
        process: Process,
        *,
        timeout: float | None,
        is_awaited: bool,
        owner: str = "",
        address: str = "",
    ) -> Job:
        """Have a job's process started, at once or in its turn.

        Args:
            job_id: The job's id.
            process: The process.
            timeout: Seconds until it is stopped, from its start; None for never.
            is_awaited: True if somebody waits for its start.
            owner: The name of the token of who asks for it.
            address: Where they are, for people.

        Raises:
            WorkerBusyError: If it would have to wait and may not, or too many do.
            OSError: If the command is too long, or can't be written down.
        """
        job = self._jobs.make(job_id, process.display)
        order = Spawn(
            job_id,
            process.argv,
            process.display,
            self._place(process.cwd),
            _encode(process.env),
            stdin=process.stdin,
            timeout=timeout,
            is_awaited=is_awaited,
            orphan_timeout=process.orphan_timeout,
            terminal=process.terminal,
            files=process.files,
            owner=owner,
        )
        job.note_order(order)
        if self._queue.limit is None and not process.gpus:
            self._launch(job, order)
        else:
            client = client_of(owner, address)
            wish = Wish(client, process.priority, process.gpus, process.queue)
            self._queue.admit(job, order, wish)
        self._jobs.add(job)
        return job

    def _launch(self, job: Job, order: Spawn) -> None:
        """Have the supervisor start a job; the next one if there is none just now."""
        job.order = order
        self._follower.line.spawn(order)
        if job.resized is not None:
            self._follower.line.resize(job.resized)
        if job.is_queued and not job.readers:
            self._follower.attend(job)

    def _ended(self, job: Job) -> None:
        self._sweeper.count()
        self._queue.ended(job)
        self._note_end(job)

    def _place(self, cwd: str | None) -> str:
        if cwd is None:
            return str(self._root)
        if cwd.startswith("/"):
            return cwd
        return str(self._root / Path(cwd).expanduser())

    def add_reader(self, reader: Reader) -> None:
        """Begin to read a job."""
        job = reader.job
        job.readers.append(reader)
        if len(job.readers) == 1:
            self._follower.attend(job)
        if job.status is not Status.PENDING or (job.is_queued and job.place):
            reader.accept()
            reader.pump()

    def remove_reader(self, reader: Reader) -> None:
        """Read no more; twice is fine."""
        job = reader.job
        if reader in job.readers:
            job.readers.remove(reader)
            if not job.readers:
                self._follower.attend(job)
        self._jobs.retire_if_idle(job)

    async def stop(
        self, job_id: str, *, signal: str, grace: float, reason: str
    ) -> StopReport:
        """Stop a job.

        Raises:
            LookupError: If there is no such job.
        """
        job = self._jobs.find(job_id)
        if job.outcome is not None and job.status is not Status.LOST:
            return StopReport(job_id, job.outcome.status)
        if job.place:
            return self._queue.stop(job, reason)
        if job.task is not None:
            return await job.task.stop(signal=signal, grace=grace, reason=reason)
        order = Stop(job_id, signal, grace, reason)
        report = await self._follower.line.stop(order)
        if report.status:
            return report
        # The supervisor does not hold it any more: it has ended meanwhile.
        return structs.replace(report, status=job.status.value)

    async def feed(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Write to a job's stdin, as one of those who do; waits until it has begun.

        Raises:
            LookupError: If there is no such job.
            ValueError: If bytes before these are missing.
            BrokenPipeError: If stdin is closed before all was taken.
        """
        job = self._jobs.find(job_id)
        async with job.feeding:
            await job.stepped_out()
            if job.task is not None:
                ack = await job.task.feed(data, offset=offset, end=end, writer=writer)
                if ack.offset >= offset + len(data):
                    return ack
            elif job.outcome is None:
                order = Feed(job_id, offset, data, end, writer)
                fed = await self._follower.line.feed(order)
                if fed.offset >= offset + len(data):
                    return InputAck(fed.offset, fed.closed)
                if fed.problem:
                    raise ValueError(fed.problem)
        if not data:
            return InputAck(offset, closed=True)  # closing what is closed
        text = f"the stdin of job {job_id} is not open: it needs stdin=True"
        raise BrokenPipeError(errno.EPIPE, text)

    def resize(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size; nothing if the job has ended.

        Raises:
            LookupError: If there is no such job.
            ValueError: If it has no terminal.
        """
        job = self._jobs.find(job_id)
        if job.outcome is not None:
            return
        if not job.has_terminal:
            raise ValueError(f"job {job_id} has no terminal: it needs tty=True")
        order = Resize(job_id, rows, cols)
        if job.place:
            job.resized = order
        else:
            self._follower.line.resize(order)


def _encode(env: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
