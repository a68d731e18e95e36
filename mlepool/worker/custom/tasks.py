"""The custom commands that run inside the worker: jobs, as processes are.

Their messages go to a journal in the same folder, and are read from there as any job's
are. They end with the worker process: what has no end in its journal then is LOST.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlepool.config import Limits
from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.files import Syncer, look_at_disk
from mlepool.supervisor.messages import Grown
from mlepool.supervisor.recorder import Recorder
from mlepool.wire.messages import Outcome
from mlepool.worker.custom.command import Bundle, CustomCommand, Given
from mlepool.worker.custom.task import Task
from mlepool.worker.custom.task_call import TaskCall
from mlepool.worker.custom.task_context import Caller, Context
from mlepool.worker.custom.task_output import TaskOutput
from mlepool.worker.job import Job, Status
from mlepool.worker.known import KnownJobs
from mlepool.worker.threads import in_thread

__all__ = ["Tasks"]

logger = logging.getLogger("mlepool.worker")

MAX_TASKS = 1000  # that run at once: each may have a thread, and has a file open
CLOSE_GRACE = 2.0  # seconds between the stages of the stop of what runs at the end
SAVE_AGAIN = 1.0  # seconds before ends that could not be written are tried again


class Tasks:
    """What runs inside the worker.

    Args:
        folder: Where journals are.
        jobs: The worker's jobs: these are among them.
        limits: What a journal may take; may be replaced at any time.
        grown: Called when a journal has grown.
        pressed: Called when the disk gets full.
    """

    def __init__(
        self,
        folder: Path,
        jobs: KnownJobs,
        *,
        limits: Limits,
        grown: Callable[[Grown], None],
        pressed: Callable[[], None],
    ) -> None:
        self.limits = limits
        self._folder = folder
        self._jobs = jobs
        self._grown = grown
        self._pressed = pressed
        self._tasks: dict[str, Task] = {}
        self._left: list[Task] = []
        self._unsaved: dict[str, tuple[Recorder, Outcome]] = {}
        self._syncer: Syncer | None = None
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def count_left(self) -> int:
        """Count the threads that go on after their job has ended."""
        self._left = [task for task in self._left if task.is_left]
        return len(self._left)

    def start(
        self,
        job_id: str,
        command: CustomCommand,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        timeout: float | None = None,
    ) -> Job:
        """Begin a command; the job that has this id already, if there is one.

        Raises:
            TypeError: If the arguments don't fit; nothing was begun then.
            WorkerError: If too many run, or the worker ends.
            OSError: If its journal can't be made.
        """
        given = command.check(arguments, caller.cwd)
        if self._is_closing or len(self) + self.count_left() >= MAX_TASKS:
            cause = "it ends" if self._is_closing else f"{MAX_TASKS} others run"
            raise WorkerError(f"the worker began no {command.spec.name}(): {cause}")
        job = self._jobs.make(job_id, command.spec.name)
        job.streams, job.cwd, job.owner = True, str(caller.cwd), caller.grant.name
        try:
            recorder = self._record(job)
        except FileExistsError:
            return self._rejoin(job)
        job.become(Status.RUNNING)
        self._jobs.add(job)
        task = self._make(job, command, given, caller=caller, recorder=recorder)
        self._tasks[job_id] = job.task = task
        command.bundle.enter()
        task.begin(timeout)
        return job

    async def close(self) -> None:
        """Stop what runs, within a bounded time, and begin nothing more."""
        self._is_closing = True
        stop = {"signal": "SIGTERM", "grace": CLOSE_GRACE, "reason": "the worker ends"}
        stops = [task.stop(**stop) for task in self._tasks.values()]  # type: ignore[arg-type]
        await asyncio.gather(*stops)
        for recorder, _ in self._unsaved.values():
            os.close(recorder.release())
        self._unsaved.clear()
        if self._syncer is not None:
            await in_thread(self._syncer.close)
            self._syncer.settle()
            self._syncer = None

    def _record(self, job: Job) -> Recorder:
        head = JobHead(
            job.id,
            job.command,
            job.cwd,
            job.started,
            owner=job.owner,
            streams=True,
        )
        size = look_at_disk(self._folder).size
        recorder = Recorder(self._folder, head, self.limits, disk_size=size)
        try:
            recorder.begin(JobProcess(0, (0, 0), job.started))
        except BaseException:
            recorder.discard()
            raise
        return recorder

    def _rejoin(self, job: Job) -> Job:
        try:
            return self._jobs.find(job.id)
        except WorkerError:
            self._jobs.add(job)
            self._jobs.rejoin(job)  # its journal is damaged: it is LOST
            return job

    def _make(
        self,
        job: Job,
        command: CustomCommand,
        given: Given,
        *,
        caller: Caller,
        recorder: Recorder,
    ) -> Task:
        loop = asyncio.get_running_loop()
        grown = functools.partial(self._has_grown, job, recorder)
        output = TaskOutput(recorder, loop, grown=grown)
        context = Context(job.id, caller, output=output, loop=loop)
        check = functools.partial(caller.check, given.paths) if given.paths else None
        call = TaskCall(
            command.prepare(context, given.values),
            name=f"{job.command} {job.id}",
            is_async=command.is_async,
            give=output.write_value,
            check=check,
            stopped=context.stopped,
        )
        has_ended = functools.partial(
            self._has_ended, job, recorder, bundle=command.bundle
        )
        return Task(
            job,
            call,
            context=context,
            output=output,
            has_context=command.takes_context,
            ended=has_ended,
        )

    def _has_grown(self, job: Job, recorder: Recorder) -> None:
        if job.outcome is None:
            self._grown(Grown(job.id, recorder.position, recorder.dropped))
        if recorder.is_pressed:
            recorder.is_pressed = False
            self._pressed()

    def _has_ended(
        self, job: Job, recorder: Recorder, outcome: Outcome, *, bundle: Bundle
    ) -> None:
        bundle.leave()
        self._has_grown(job, recorder)
        tell = functools.partial(self._tell, job, outcome)
        if not recorder.is_saved:
            self._unsaved[job.id] = recorder, outcome
            if len(self._unsaved) == 1:
                asyncio.get_running_loop().call_later(SAVE_AGAIN, self._save_again)
            tell()
        elif self.limits.durability == "power":
            self._sync(recorder, tell)
        else:
            self._sync(recorder)
            tell()

    def _tell(self, job: Job, outcome: Outcome) -> None:
        task = self._tasks.pop(job.id)
        if task.is_left:
            self._left.append(task)
        job.task = None
        job.is_on_disk = job.id not in self._unsaved
        if job.outcome is None:
            self._jobs.end(job, outcome)

    def _sync(self, recorder: Recorder, then: Callable[[], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        if self._syncer is None:
            self._syncer = Syncer(self._folder, lambda: self._wake(loop))
        self._syncer.add(recorder.release(), then)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._syncer is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._syncer.settle)

    def _save_again(self) -> None:
        """Write ends for which there was no room: there may be some by now."""
        for job_id, (recorder, outcome) in list(self._unsaved.items()):
            if recorder.save(outcome):
                del self._unsaved[job_id]
                self._sync(recorder)
        if self._unsaved and not self._is_closing:
            asyncio.get_running_loop().call_later(SAVE_AGAIN, self._save_again)
