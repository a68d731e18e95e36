"""What jobs write: moved to their journals, and the worker is told how far they are."""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mlepool.supervisor.chores import Chores
from mlepool.supervisor.floods import Floods
from mlepool.supervisor.job import Job
from mlepool.supervisor.line import WorkerLine
from mlepool.supervisor.messages import Grown, Pressed, Spawned
from mlepool.supervisor.timers import Timers
from mlepool.supervisor.waiter import READ, Waiter

__all__ = ["Drains"]

NEWS_DELAY = 0.05  # seconds before telling of a start that nobody waits for
GROWTH_PAUSE = 0.001  # seconds between two tellings of one job's output: a wake-up each


class Drains:
    """Drains jobs' pipes, side by side.

    Args:
        waiter: What waits for pipes; each callback takes nothing.
        timers: What calls us again.
        line: Where the worker is told.
        chores: What is done after that.
        lock: A descriptor of the state folder's lock.
        ended: Called with a job one of whose pipes has ended.
    """

    def __init__(
        self,
        waiter: Waiter,
        timers: Timers,
        line: WorkerLine,
        *,
        chores: Chores,
        lock: int,
        ended: Callable[[Job], None],
    ) -> None:
        self._waiter = waiter
        self._timers = timers
        self._line = line
        self._chores = chores
        self._ended = ended
        self._floods = Floods(
            waiter,
            timers,
            lock=lock,
            grown=self._has_grown,
            ended=self._back,
            unable=self._keep,
        )
        self._grown: dict[str, Job] = {}
        self._begun: deque[tuple[float, Job]] = deque()  # the next to be told first

    def watch(self, job: Job) -> None:
        """Drain a job's pipes from now on."""
        for fd in job.pipes:
            drain = functools.partial(self._drain, job, fd)
            self._waiter.register(fd, READ, drain)
        self._floods.give_way()

    def tell_start(self, job: Job) -> None:
        """Tell the worker that a job has begun."""
        job.is_news = False
        self._line.send(Spawned(job.id, job.pid, job.started))

    def tell_start_later(self, job: Job) -> None:
        """Tell that a job has begun with its first output, or in a moment."""
        job.is_news = True
        self._begun.append((time.monotonic() + NEWS_DELAY, job))
        if len(self._begun) == 1:
            self._timers.after(NEWS_DELAY, self._tell_starts)

    def _tell_starts(self) -> None:
        now, begun = time.monotonic(), self._begun
        while begun and (begun[0][0] <= now or not begun[0][1].is_news):
            _, job = begun.popleft()
            if job.is_news:
                self.tell_start(job)
        if begun:
            self._timers.after(begun[0][0] - now, self._tell_starts)

    def forget(self, job: Job) -> None:
        """Tell no more of a job's start, or of how its output grows."""
        self._grown.pop(job.id, None)
        job.is_news = False

    def attend(self, job: Job, *, is_followed: bool) -> None:
        """Know if anybody keeps up with what a job writes; if not, others go first."""
        job.is_unread = not is_followed
        self._floods.attend(job)

    def abandon(self, job: Any) -> None:
        """Drain a job no more, though somebody holds its pipes open.

        One that is drained aside ends its pipes soon: ``ended`` is called then.
        """
        if isinstance(job, Job) and job.is_aside:
            self._floods.call_off(job)
            return
        for fd in list(job.pipes):
            self._waiter.unregister(fd)
        job.abandon_pipes()

    def tell(self) -> None:
        """Tell how far journals have grown: each one now and then, if it is read."""
        if not self._grown:
            return
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
        if job.is_news:
            self.tell_start(job)
        recorder = job.recorder
        fresh = recorder.take_fresh()
        self._line.send(Grown(job.id, recorder.position, recorder.dropped, fresh))
        if recorder.is_pressed:
            recorder.is_pressed = False
            self._line.send(Pressed())

    def _drain(self, job: Job, fd: int) -> None:
        if job.is_aside or fd not in job.pipes:
            return  # since select()
        recorder = job.recorder
        position, dropped = recorder.position, recorder.dropped
        moved = job.drain(fd)
        if moved is None:
            del job.pipes[fd]
            self._chores.add(functools.partial(self._close, fd))
            self._ended(job)
        elif moved:
            self._floods.give_way()
        if recorder.position != position or recorder.dropped != dropped:
            self._has_grown(job)
        if moved and job.is_flooding(moved, now=time.monotonic()):
            self._set_aside(job)

    def _close(self, fd: int) -> None:
        # In this order: what is closed first epoll goes on to tell of, under a number
        # that is another pipe's then, while a child holds it open.
        self._waiter.unregister(fd)
        os.close(fd)

    def _has_grown(self, job: Job) -> None:
        if job.outcome is None:
            self._grown[job.id] = job

    def _set_aside(self, job: Job) -> None:
        """Have a job that writes very much drained by a process of its own."""
        if not job.is_kept:
            for fd in job.pipes:
                self._waiter.unregister(fd)
            job.is_aside = True
            self._floods.take(job)

    def _back(self, job: Job) -> None:
        job.is_aside = False
        self._ended(job)

    def _keep(self, job: Job) -> None:
        """Drain a job here that nobody else can."""
        job.is_aside, job.is_kept = False, True
        self.watch(job)
