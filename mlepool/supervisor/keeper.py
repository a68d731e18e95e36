"""The supervisor's loop: spawn, drain, reap; answers the worker over a unix socket.

One loop, one selector, no asyncio: it starts in a fraction of the time and wakes up
faster. It ends by itself when no worker is connected and no job runs.
"""

from __future__ import annotations

import functools
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlepool.config import Limits
from mlepool.supervisor.cgroups import Cgroups, Slot
from mlepool.supervisor.deaths import Deaths
from mlepool.supervisor.endings import Endings
from mlepool.supervisor.files import Syncer, look_at_disk
from mlepool.supervisor.floods import Floods
from mlepool.supervisor.job import Job
from mlepool.supervisor.ledger import Ledger
from mlepool.supervisor.line import WorkerLine
from mlepool.supervisor.messages import (
    Attend,
    Fed,
    Feed,
    Finish,
    Greet,
    Greeting,
    Grown,
    Pressed,
    Resize,
    Spawn,
    Spawned,
    Stop,
    Stopped,
    common_version,
)
from mlepool.supervisor.stops import Stops
from mlepool.supervisor.strays import Stray, recall_stray
from mlepool.supervisor.timers import Timers
from mlepool.wire.messages import Failure
from mlepool.wire.values import StopReport

__all__ = ["Keeper"]

logger = logging.getLogger("mlepool.supervisor")

LINGER = 5.0  # seconds that an idle supervisor waits for its (first) worker
TIMEOUT_SIGNAL = "SIGTERM"  # a deadline has passed: there is no time left to ask nicely
TIMEOUT_GRACE = 2.0  # seconds
MAX_WAIT = 3600.0  # seconds; epoll takes no more than 24 days
FLOOD_PAUSE = 0.002  # seconds between two looks at jobs that are drained aside
GROWTH_PAUSE = 0.001  # seconds between two tellings of one job's output: a wake-up each
NEWS_DELAY = 0.02  # seconds before telling of a start that nobody waits for


class Keeper:
    """Owns jobs and one connection to a worker.

    Args:
        folder: Where journals are.
        listener: The listening unix socket.
        syncer: Makes journals safe from a loss of power.
        ledger: Says which jobs are open, to the supervisor after this one.
        strays: Jobs of a supervisor before us that was killed.
        wake: Makes ``wakeup`` of :meth:`run` readable, from any thread.
    """

    def __init__(
        self,
        folder: Path,
        listener: socket.socket,
        *,
        syncer: Syncer,
        ledger: Ledger,
        strays: list[Stray],
        wake: Callable[[], object],
    ) -> None:
        self._folder = folder
        self._syncer = syncer
        self._ledger = ledger
        self._floods = Floods(wake)
        self._selector = selectors.DefaultSelector()
        self._strays = {stray.id: stray for stray in strays}
        self._jobs: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._timers = Timers()
        self._cgroups = Cgroups.find()
        self._deaths = Deaths()
        self._environment: dict[bytes, bytes] = {}
        self._limits = Limits()
        self._disk_size = look_at_disk(folder).size
        self._grown: dict[str, Job] = {}
        self._finishing = False
        self._idle_since = time.monotonic()
        self._line = WorkerLine(
            listener,
            self._selector,
            self._timers,
            received=lambda message: self._handlers[type(message)](message),
            lost=self._worker_lost,
        )
        self._send = self._line.send
        self._endings = Endings(
            self._jobs,
            self._timers,
            syncer=syncer,
            ledger=ledger,
            send=self._line.send,
        )
        self._stops = Stops(
            self._timers,
            leaders=lambda: self._by_pid,
            settle=self._settle,
            close_pipes=self._close_pipes,
            report=lambda report: self._send(Stopped(report.job_id, report)),
        )
        self._handlers: dict[type, Callable[[Any], None]] = {
            Greet: self._greet,
            Spawn: self._spawn,
            Feed: self._feed,
            Stop: self._stop,
            Attend: self._attend,
            Resize: self._resize,
            Finish: self._finish,
        }

    def run(self, wakeup: socket.socket) -> None:
        """Work until there is nothing left to do.

        Args:
            wakeup: Readable after a signal came (``signal.set_wakeup_fd``).
        """
        self._line.open()
        self._watch(wakeup, lambda: self._woken(wakeup))
        while not self._is_done():
            for key, _ in self._selector.select(self._next_timeout()):
                key.data()
            self._timers.run()
            self._send_positions()
        self._line.drop()
        if self._cgroups is not None:
            self._cgroups.close()

    def _watch(self, source: Any, callback: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def _is_done(self) -> bool:
        if self._jobs or (self._line.is_up and not self._finishing):
            self._idle_since = time.monotonic()
            return False
        return self._finishing or time.monotonic() - self._idle_since >= LINGER

    def _next_timeout(self) -> float | None:
        wait = self._timers.wait()
        if not self._line.is_up and not self._jobs:
            return LINGER if wait is None else min(wait, LINGER)
        return None if wait is None else min(wait, MAX_WAIT)

    # -- the worker

    def _worker_lost(self) -> None:
        """Count the time without readers from now on; the next worker may have some."""
        for job in self._by_pid.values():
            self._orphan(job)

    def _send_positions(self) -> None:
        """Tell how far journals have grown: each one now and then, if it is read."""
        if not self._line.is_up:
            self._grown.clear()  # the next worker's greeting says where each one is
        elif not self._line.has_backlog:
            now = time.monotonic()
            for job in list(self._grown.values()):
                if now >= job.told + GROWTH_PAUSE:
                    del self._grown[job.id]
                    self._tell_growth(job, now)
                elif not self._timers.is_set("growth"):
                    self._timers.set("growth", GROWTH_PAUSE, lambda: None)
        self._line.flush()

    def _tell_growth(self, job: Job, now: float) -> None:
        if job.outcome is not None:
            return
        job.told = now
        if self._timers.cancel(f"news {job.id}"):
            self._send(Spawned(job.id, job.pid, job.started))
        recorder = job.recorder
        self._send(Grown(job.id, recorder.position, recorder.dropped))
        if recorder.is_pressed:
            recorder.is_pressed = False
            self._send(Pressed())

    # -- what the worker asks for

    def _greet(self, greet: Greet) -> None:
        self._finishing = False
        self._environment, self._limits = greet.environment, greet.limits
        self._disk_size = look_at_disk(self._folder).size
        held = [stray.info() for stray in self._strays.values()]
        held += [job.info() for job in self._jobs.values()]
        self._send(Greeting(common_version(greet), os.getpid(), tuple(held)))

    def _spawn(self, order: Spawn) -> None:
        known = self._jobs.get(order.id)
        if known is not None:
            self._tell_again(known)
            return
        slot = self._slot()
        try:
            with self._ledger.enter(order.id):
                job = Job(
                    order,
                    self._folder,
                    self._environment,
                    limits=self._limits,
                    disk_size=self._disk_size,
                    slot=slot,
                )
        except OSError as exc:
            self._give_back(slot)
            failure = Failure(type(exc).__name__, str(exc), "", exc.errno)
            self._send(Spawned(order.id, failure=failure))
            return
        self._jobs[job.id] = job
        if job.failure is not None:
            self._announce(job)
            return
        self._by_pid[job.pid] = job
        self._watch_pipes(job)
        if order.timeout is not None:
            time_out = functools.partial(self._time_out, job)
            self._timers.set(f"deadline {job.id}", order.timeout, time_out)
        if order.is_awaited:
            self._send(Spawned(job.id, job.pid, job.started))
        else:
            news = Spawned(job.id, job.pid, job.started)
            tell = functools.partial(self._send, news)
            self._timers.set(f"news {job.id}", NEWS_DELAY, tell)

    def _slot(self) -> Slot | None:
        if self._cgroups is None:
            return None
        try:
            return self._cgroups.take()
        except OSError as exc:
            logger.warning("jobs get no control group from now on: %s", exc)
            self._cgroups = None
            return None

    def _tell_again(self, job: Job) -> None:
        """Answer a worker that does not know if its order has arrived."""
        if job.outcome is None:
            self._send(Spawned(job.id, job.pid, job.started))
        else:
            self._endings.tell_again(job)

    def _give_back(self, slot: Slot | None) -> None:
        if slot is not None and self._cgroups is not None:
            self._cgroups.give_back(slot)

    def _feed(self, feed: Feed) -> None:
        job = self._jobs.get(feed.id)
        if job is None or job.outcome is not None:
            self._send(Fed(feed.id, feed.offset, closed=True))
            return
        fd, was_watched = job.stdin.fd, job.stdin.is_waiting
        try:
            job.stdin.feed(feed.offset, feed.data, end=feed.end, writer=feed.writer)
        except ValueError as exc:
            closed = not job.stdin.is_open
            self._send(Fed(job.id, job.stdin.fed, closed=closed, problem=str(exc)))
            return
        self._after_feeding(job, fd, was_watched=was_watched)

    def _after_feeding(self, job: Job, fd: int, *, was_watched: bool) -> None:
        is_waiting = job.stdin.is_waiting
        if is_waiting and not was_watched:
            write = functools.partial(self._write_input, job, fd)
            self._selector.register(fd, selectors.EVENT_WRITE, write)
        elif was_watched and not is_waiting:
            self._selector.unregister(fd)
        self._send(Fed(job.id, job.stdin.fed, closed=not job.stdin.is_open))

    def _write_input(self, job: Job, fd: int) -> None:
        if job.stdin.fd != fd:
            return  # closed since select(); the number may be another pipe's by now
        job.stdin.write()
        self._after_feeding(job, fd, was_watched=True)

    def _close_input(self, job: Job) -> None:
        if job.stdin.is_waiting:
            self._selector.unregister(job.stdin.fd)
            job.stdin.close()
            self._send(Fed(job.id, job.stdin.fed, closed=True))
        job.stdin.close()

    def _stop(self, stop: Stop) -> None:
        job = self._jobs.get(stop.id) or self._stray(stop.id)
        if job is None or (job.outcome is not None and not isinstance(job, Stray)):
            status = job.outcome.status if job and job.outcome else ""
            self._send(Stopped(stop.id, StopReport(stop.id, status)))
            return
        self._stops.begin(job, stop)

    def _resize(self, resize: Resize) -> None:
        job = self._jobs.get(resize.id)
        if job is not None:
            job.resize(resize.rows, resize.cols)

    def _stray(self, job_id: str) -> Stray | None:
        """Find a job that was lost by a supervisor before us, if it still runs."""
        stray = self._strays.get(job_id) or recall_stray(self._folder, job_id)
        if stray is not None:
            self._strays[job_id] = stray
        return stray

    def _attend(self, attend: Attend) -> None:
        job = self._jobs.get(attend.id)
        if job is None:
            return
        if attend.is_read:
            self._timers.cancel(f"orphan {job.id}")
        else:
            self._orphan(job)

    def _orphan(self, job: Job) -> None:
        """Begin to count the time that nobody reads a job."""
        seconds, name = job.order.orphan_timeout, f"orphan {job.id}"
        if seconds is not None and not self._timers.is_set(name):
            stop = Stop(job.id, TIMEOUT_SIGNAL, TIMEOUT_GRACE, "orphaned")
            begin = functools.partial(self._stops.begin, job, stop)
            self._timers.set(name, seconds, begin)

    def _finish(self, _: Finish) -> None:
        self._finishing = True

    # -- jobs

    def _drain(self, job: Job, fd: int) -> None:
        if job.is_aside:
            return  # since select()
        before = job.recorder.position, job.recorder.dropped
        moved = job.drain(fd)
        if moved is None:
            self._selector.unregister(fd)
            if job.order.terminal is not None:
                self._close_input(job)  # who is not there any more can't be typed to
            self._settle(job)
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

    def _take_back(self, job: Job) -> None:
        job.is_aside = False
        self._grown[job.id] = job
        self._watch_pipes(job)

    def _watch_pipes(self, job: Job) -> None:
        for fd in job.pipes:
            self._watch(fd, functools.partial(self._drain, job, fd))

    def _woken(self, wakeup: socket.socket) -> None:
        wakeup.recv(4096)
        self._syncer.settle()
        for one in self._floods.returned():
            self._take_back(one)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._by_pid.get(pid)
            if job is not None:
                self._reaped(job, status)

    def _reaped(self, job: Job, status: int) -> None:
        self._close_input(job)
        job.reaped(status)
        assert job.exit_code is not None
        group = job.slot.name if job.slot is not None else ""
        job.cause = self._deaths.cause(job.exit_code, job.pid, group)
        self._settle(job)

    def _settle(self, job: Any) -> None:
        """End a job if it can be ended now."""
        if isinstance(job, Job) and job.try_to_end():
            del self._by_pid[job.pid]
            self._grown.pop(job.id, None)
            for name in ("deadline", "news", "orphan"):
                self._timers.cancel(f"{name} {job.id}")
            self._announce(job)
        elif isinstance(job, Stray):
            self._strays.pop(job.id, None)

    def _announce(self, job: Job) -> None:
        self._give_back(job.slot)
        self._endings.announce(job, durability=self._limits.durability)

    def _time_out(self, job: Job) -> None:
        stop = Stop(job.id, TIMEOUT_SIGNAL, TIMEOUT_GRACE, "timeout")
        self._stops.begin(job, stop)

    def _close_pipes(self, job: Any) -> None:
        if job.outcome is None:
            if isinstance(job, Job) and self._floods.recall(job):
                self._take_back(job)
            for fd in list(job.pipes):
                self._selector.unregister(fd)
            job.abandon_pipes()
            self._settle(job)
