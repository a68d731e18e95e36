"""The supervisor's loop: spawn, drain, reap; answers the worker over a unix socket.

One loop, one waiter, no asyncio: it starts in a fraction of the time and wakes up
faster. It ends by itself when no worker is connected and no job runs.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlepool.supervisor.cgroups import Slots
from mlepool.supervisor.chores import Chores
from mlepool.supervisor.deaths import Deaths
from mlepool.supervisor.drains import Drains
from mlepool.supervisor.endings import Endings
from mlepool.supervisor.files import Syncer
from mlepool.supervisor.inputs import Inputs
from mlepool.supervisor.job import Job
from mlepool.supervisor.ledger import Ledger
from mlepool.supervisor.line import WorkerLine
from mlepool.supervisor.messages import (
    Attend,
    Feed,
    Finish,
    Greet,
    Greeting,
    Resize,
    Spawn,
    Spawned,
    Stop,
    Stopped,
    common_version,
)
from mlepool.supervisor.signals import read_signals
from mlepool.supervisor.starts import Starts
from mlepool.supervisor.stops import Stops
from mlepool.supervisor.strays import Stray, recall_stray
from mlepool.supervisor.timers import Timers
from mlepool.supervisor.waiter import READ, Waiter
from mlepool.wire.values import StopReport

__all__ = ["Keeper"]

LINGER = 5.0  # seconds that an idle supervisor waits for its (first) worker
TIMEOUT_SIGNAL = "SIGTERM"  # a deadline has passed: there is no time left to ask nicely
TIMEOUT_GRACE = 2.0  # seconds
MAX_WAIT = 3600.0  # seconds; epoll takes no more than 24 days


class Keeper:
    """Owns jobs and one connection to a worker.

    Args:
        folder: Where journals are.
        listener: The listening unix socket.
        syncer: Makes journals safe from a loss of power.
        ledger: Says which jobs are open, to the supervisor after this one.
        strays: Jobs of a supervisor before us that was killed.
        lock: A descriptor of the folder's lock, held by who writes journals.
    """

    def __init__(
        self,
        folder: Path,
        listener: socket.socket,
        *,
        syncer: Syncer,
        ledger: Ledger,
        strays: list[Stray],
        lock: int,
    ) -> None:
        self._folder = folder
        self._syncer = syncer
        self._waiter = Waiter()
        self._strays = {stray.id: stray for stray in strays}
        self._jobs: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._timers = Timers()
        self._chores = Chores()
        self._slots = Slots()
        self._deaths = Deaths()
        self._finishing = False
        self._idle_since: float | None = None
        self._line = WorkerLine(
            listener,
            self._waiter,
            self._timers,
            received=self._receive,
            settled=lambda: self._starts.begin(),
            lost=self._worker_lost,
        )
        self._send = self._line.send
        self._starts = Starts(
            folder,
            ledger,
            self._slots,
            begun=self._begun,
            refused=self._line.send,
        )
        self._inputs = Inputs(self._waiter, self._line.send)
        self._drains = Drains(
            self._waiter,
            self._timers,
            self._line,
            chores=self._chores,
            lock=lock,
            ended=self._pipe_ended,
        )
        self._endings = Endings(
            self._jobs,
            self._timers,
            chores=self._chores,
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
            Spawn: self._collect,
            Feed: lambda feed: self._inputs.feed(feed, self._jobs.get(feed.id)),
            Stop: self._stop,
            Attend: self._attend,
            Resize: self._resize,
            Finish: self._finish,
        }

    def run(self, wakeup: socket.socket, children: int | None = None) -> None:
        """Work until there is nothing left to do.

        Args:
            wakeup: Readable after a signal came (``signal.set_wakeup_fd``).
            children: Readable after a child has ended; None if that is a signal, too.
        """
        self._line.open()
        self._watch(wakeup, lambda: self._woken(wakeup))
        if children is not None:
            self._watch(children, lambda: self._children_ended(children))
        while not self._is_done():
            for callback in self._waiter.wait(self._next_timeout()):
                callback()
            self._timers.run()
            self._drains.tell()
            self._line.flush()
            self._chores.run()
        self._line.drop()
        self._slots.close()
        self._waiter.close()

    def _watch(self, source: Any, callback: Callable[[], object]) -> None:
        self._waiter.register(source, READ, callback)

    def _is_done(self) -> bool:
        if self._jobs or (self._line.is_up and not self._finishing):
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return self._finishing or now - self._idle_since >= LINGER

    def _next_timeout(self) -> float | None:
        wait, most = self._timers.wait(), MAX_WAIT
        if not self._jobs and not self._line.is_up:
            most = LINGER
        return wait if wait is not None and wait < most else most

    # -- the worker

    def _worker_lost(self) -> None:
        """Count the time without readers from now on; the next worker may have some."""
        for job in self._by_pid.values():
            self._orphan(job)
            self._drains.attend(job, is_followed=False)

    # -- what the worker asks for

    def _greet(self, greet: Greet) -> None:
        self._finishing = False
        self._starts.greeted(greet)
        for job in self._by_pid.values():
            self._drains.attend(job, is_followed=True)  # as a new job, until told
        held = [stray.info() for stray in self._strays.values()]
        held += [job.info() for job in self._jobs.values()]
        self._send(Greeting(common_version(greet), os.getpid(), tuple(held)))

    def _receive(self, message: Any) -> None:
        if type(message) is not Spawn:
            self._starts.begin()  # it may be about one of those
        self._handlers[type(message)](message)

    def _collect(self, order: Spawn) -> None:
        """Start a job together with others that are asked for at the same time."""
        if self._starts.is_waiting(order.id):
            self._starts.begin()
        known = self._jobs.get(order.id)
        if known is None:
            self._starts.collect(order)
        else:
            self._tell_again(known)

    def _begun(self, job: Job) -> None:
        order = job.order
        self._jobs[job.id] = job
        if job.failure is not None:
            self._announce(job)
            return
        self._by_pid[job.pid] = job
        self._drains.watch(job)
        if order.timeout is not None:
            time_out = functools.partial(self._time_out, job)
            self._timers.set(f"deadline {job.id}", order.timeout, time_out)
        if order.is_awaited:
            self._drains.tell_start(job)
        else:
            self._drains.tell_start_later(job)

    def _tell_again(self, job: Job) -> None:
        """Answer a worker that does not know if its order has arrived."""
        if job.outcome is None:
            self._send(Spawned(job.id, job.pid, job.started))
        else:
            self._endings.tell_again(job)

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
        self._drains.attend(job, is_followed=attend.is_followed)
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

    def _pipe_ended(self, job: Job) -> None:
        if job.order.terminal is not None:
            self._inputs.close(job)  # who is not there any more can't be typed to
        self._settle(job)

    def _woken(self, wakeup: socket.socket) -> None:
        wakeup.recv(4096)
        self._syncer.settle()
        self._reap()

    def _children_ended(self, children: int) -> None:
        read_signals(children)
        self._reap()

    def _reap(self) -> None:
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
        self._inputs.close(job)
        job.reaped(status)
        assert job.exit_code is not None
        group = job.slot.name if job.slot is not None else ""
        job.cause = self._deaths.cause(job.exit_code, job.pid, group)
        self._settle(job)

    def _settle(self, job: Any) -> None:
        """End a job if it can be ended now."""
        if isinstance(job, Job) and job.try_to_end():
            del self._by_pid[job.pid]
            self._drains.forget(job)
            if job.order.timeout is not None:
                self._timers.cancel(f"deadline {job.id}")
            if job.order.orphan_timeout is not None:
                self._timers.cancel(f"orphan {job.id}")
            self._announce(job)
        elif isinstance(job, Stray):
            self._strays.pop(job.id, None)

    def _announce(self, job: Job) -> None:
        self._slots.give_back(job.slot)
        self._endings.announce(job, durability=self._starts.limits.durability)

    def _time_out(self, job: Job) -> None:
        stop = Stop(job.id, TIMEOUT_SIGNAL, TIMEOUT_GRACE, "timeout")
        self._stops.begin(job, stop)

    def _close_pipes(self, job: Any) -> None:
        if job.outcome is None:
            self._drains.abandon(job)
            self._settle(job)
