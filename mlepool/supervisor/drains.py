"""What jobs write: moved to their journals, and the worker is told how far they are."""

from __future__ import annotations

import functools
import selectors
import time
from collections.abc import Callable
from typing import Any

from mlepool.supervisor.floods import Floods
from mlepool.supervisor.job import Job
from mlepool.supervisor.line import WorkerLine
from mlepool.supervisor.messages import Grown, Pressed, Spawned
from mlepool.supervisor.timers import Timers

__all__ = ["Drains"]

FLOOD_PAUSE = 0.002  # seconds between two looks at jobs that are drained aside
GROWTH_PAUSE = 0.001  # seconds between two tellings of one job's output: a wake-up each


class Drains:
    """Drains jobs' pipes, side by side.

    Args:
        selector: What waits for pipes; each callback takes nothing.
        timers: What calls us again.
        line: Where the worker is told.
        wake: Has the loop call :meth:`take_back`, from any thread.
        ended: Called with a job one of whose pipes has ended.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        timers: Timers,
        line: WorkerLine,
        *,
        wake: Callable[[], object],
        ended: Callable[[Job], None],
    ) -> None:
        self._selector = selector
        self._timers = timers
        self._line = line
        self._ended = ended
        self._floods = Floods(wake)
        self._grown: dict[str, Job] = {}

    def watch(self, job: Job) -> None:
        """Drain a job's pipes from now on."""
        for fd in job.pipes:
            drain = functools.partial(self._drain, job, fd)
            self._selector.register(fd, selectors.EVENT_READ, drain)

    def forget(self, job: Job) -> None:
        """Tell no more of how a job's output grows."""
        self._grown.pop(job.id, None)

    def abandon(self, job: Any) -> None:
        """Drain a job no more, though somebody holds its pipes open."""
        if isinstance(job, Job) and self._floods.recall(job):
            self._go_on(job)
        for fd in list(job.pipes):
            self._selector.unregister(fd)
        job.abandon_pipes()

    def take_back(self) -> None:
        """Go on with the jobs that are no more drained aside."""
        for job in self._floods.returned():
            self._go_on(job)

    def tell(self) -> None:
        """Tell how far journals have grown: each one now and then, if it is read."""
        if not self._line.is_up:
            self._grown.clear()  # the next worker's greeting says where each one is
        elif not self._line.has_backlog:
            now = time.monotonic()
            for job in list(self._grown.values()):
                if now >= job.told + GROWTH_PAUSE:
                    del self._grown[job.id]
                    self._tell_of(job, now)
                elif not self._timers.is_set("growth"):
                    self._timers.set("growth", GROWTH_PAUSE, lambda: None)

    def _tell_of(self, job: Job, now: float) -> None:
        if job.outcome is not None:
            return
        job.told = now
        if self._timers.cancel(f"news {job.id}"):
            self._line.send(Spawned(job.id, job.pid, job.started))
        recorder = job.recorder
        self._line.send(Grown(job.id, recorder.position, recorder.dropped))
        if recorder.is_pressed:
            recorder.is_pressed = False
            self._line.send(Pressed())

    def _drain(self, job: Job, fd: int) -> None:
        if job.is_aside:
            return  # since select()
        before = job.recorder.position, job.recorder.dropped
        moved = job.drain(fd)
        if moved is None:
            self._selector.unregister(fd)
            self._ended(job)
        after = job.recorder.position, job.recorder.dropped
        if after != before and job.outcome is None:
            self._grown[job.id] = job
        if moved and job.is_flooding(moved, now=time.monotonic()):
            self._set_aside(job)

    def _set_aside(self, job: Job) -> None:
        """Have a job that writes very much drained in the other thread."""
        for fd in job.pipes:
            self._selector.unregister(fd)
        job.is_aside = True
        self._floods.take(job)
        if not self._timers.is_set("floods"):
            self._timers.set("floods", FLOOD_PAUSE, self._look_at_floods)

    def _look_at_floods(self) -> None:
        """Have readers told of what the other thread has written."""
        jobs = self._floods.jobs()
        self._grown.update((job.id, job) for job in jobs)
        if jobs:
            self._timers.set("floods", FLOOD_PAUSE, self._look_at_floods)

    def _go_on(self, job: Job) -> None:
        job.is_aside = False
        self._grown[job.id] = job
        self.watch(job)
