"""The queue: which jobs run, which wait for a slot or GPUs, and whose turn it is."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import journal_path
from mlepool.supervisor.messages import Spawn
from mlepool.wire.messages import Outcome
from mlepool.wire.values import StopReport
from mlepool.worker.failures import busy, failed
from mlepool.worker.job import Job
from mlepool.worker.known import KnownJobs
from mlepool.worker.queue.backlog import Backlog, Order
from mlepool.worker.queue.gpu_watch import GpuWatch
from mlepool.worker.queue.gpus import GpuDriver
from mlepool.worker.queue.leases import environment
from mlepool.worker.queue.news import QueueNews
from mlepool.worker.queue.slots import Line, Ticket, Wish

__all__ = ["Host", "Queue"]

logger = logging.getLogger("mlepool.worker")

QUEUE_FOLDER = "queue"  # in the state folder
LEASES_FILE = "gpus.json"  # there, too
MAX_WAITING = 100_000  # jobs; each takes some KiB of memory and of disk
MAX_SIZE = 1024**3  # bytes of orders on disk
AT_ONCE = 64  # jobs that are begun before links have their turn


class Host(NamedTuple):
    """What the queue uses of its worker.

    Attributes:
        launch: Has the supervisor start a job.
        is_up: Tells if there is a supervisor.
        tell: Told how the queue stands, now and then.
    """

    launch: Callable[[Job, Spawn], None]
    is_up: Callable[[], bool]
    tell: Callable[[dict[str, Any]], None]


class _Fresh(NamedTuple):
    """A job that has joined, and of which nobody is told before GPUs were looked at."""

    ticket: Ticket
    order: Spawn
    may_wait: bool


class Queue:
    """Lets jobs begin in their turn.

    Args:
        state_dir: The worker's state folder.
        folder: Where journals are.
        jobs: The jobs.
        limit: How many may run at once; None for any number.
        driver: Tells of GPUs.
        host: The worker.

    Attributes:
        limit: As given; :meth:`set_limit` changes it.
    """

    def __init__(
        self,
        state_dir: Path,
        folder: Path,
        jobs: KnownJobs,
        *,
        limit: int | None,
        driver: GpuDriver,
        host: Host,
    ) -> None:
        self.limit = limit
        self._folder = folder
        self._jobs = jobs
        self._host = host
        self._line = Line()
        self._backlog = Backlog(state_dir / QUEUE_FOLDER, folder)
        self._running: set[str] = set()
        self._fresh: dict[str, _Fresh] = {}
        self._gpus = GpuWatch(state_dir / LEASES_FILE, driver, seen=self._looked)
        self._news = QueueNews(self._line, jobs, tell=self._tell)
        self._is_open = False
        self._turning: asyncio.Handle | None = None

    # -- life

    def load(self) -> None:
        """Know the jobs again that waited when the worker before us ended."""
        for order in self._backlog.load():
            job = self._jobs.make(order.ticket.id, order.spawn.display)
            job.note_order(order.spawn)
            job.started = order.asked
            job.priority, job.is_queued = -order.ticket.rank, True
            self._line.join(order.ticket)
            self._jobs.add(job)
        self._news.count()

    def open(self) -> None:
        """Begin, after the supervisor has said what runs: nothing runs twice."""
        for ticket in list(self._line):
            if os.path.exists(journal_path(self._folder, ticket.id)):
                job = self._jobs.find(ticket.id)
                self._leave(job)
                self._jobs.rejoin(job)
        self._gpus.open(waiting=[one.id for one in self._line], running=self._alive())
        if self._line.for_gpus:
            self._gpus.look()
        self._is_open = True
        self.recount()
        self._news.tell()

    def close(self) -> None:
        """Leave the jobs that wait to the next worker."""
        self._is_open = False
        self._gpus.close()
        self._news.close()
        if self._turning is not None:
            self._turning.cancel()

    # -- what is asked for

    def set_limit(self, limit: int | None) -> None:
        """Change how many jobs may run at once; those that run are let be."""
        if limit != self.limit:
            self.limit = limit
            self.recount()

    def admit(self, job: Job, order: Spawn, wish: Wish) -> None:
        """Have a job begun, now or in its turn.

        Raises:
            WorkerBusyError: If it would have to wait and may not, or too many do.
            OSError: If its order is too long, or can't be written down.
        """
        if len(self._line) >= MAX_WAITING or self._backlog.size >= MAX_SIZE:
            raise busy(f"the queue is full: {len(self._line)} jobs wait")
        job.priority = wish.priority
        ticket = self._line.draw(job.id, wish)
        self._line.join(ticket)
        try:
            self._admit(job, _Fresh(ticket, order, wish.may_wait))
        except BaseException:
            self._line.leave(job.id)
            raise
        self._tell_soon()

    def stop(self, job: Job, reason: str) -> StopReport:
        """End a job that waits."""
        now = time.time()
        self._end(job, Outcome("STOPPED", started=now, ended=now, reason=reason))
        return StopReport(job.id, "STOPPED", was_waiting=True)

    def count_places(self) -> None:
        """Note where in line each job is now."""
        self._news.count()

    # -- what happens

    def begun(self, job: Job) -> None:
        """Note that the supervisor has a job that waited."""
        self._leave(job)

    def ended(self, job: Job) -> None:
        """Note a job's end, whichever job it is."""
        if job.is_queued or job.place:
            self._leave(job)
        if self._gpus.ended(job.id) or job.id in self._running:
            self._running.discard(job.id)
            self._turn_soon()

    def recount(self) -> None:
        """Find out anew which jobs run: a supervisor has told, or the limit is new."""
        self._running = set() if self.limit is None else self._alive()
        self._turn_soon()

    # -- turns

    def _turn_soon(self) -> None:
        self._tell_soon()
        if self._is_open and self._line and self._turning is None:
            self._turning = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self, free: int = 0) -> None:
        """Begin whose turn it is.

        Args:
            free: GPUs that are known to be free at this moment.
        """
        self._turning = None
        if not self._host.is_up():
            return  # the next supervisor's greeting brings us back
        for _ in range(AT_ONCE):
            ticket = self._line.next(slots=self._slots(), gpus=free)
            if ticket is None:
                break
            free -= ticket.gpus
            self._line.take(ticket)
            self._start(ticket)
        else:
            self._turn_soon()
        if not free and self._line.for_gpus:
            self._look_if_it_helps()

    def _look_if_it_helps(self) -> None:
        """Look at GPUs if some seem to be free for who is next: that may be old."""
        seem = len(self._gpus.leases.free())
        ticket = self._line.next(slots=self._slots(), gpus=seem)
        if ticket is not None and ticket.gpus:
            self._gpus.look()

    def _looked(self) -> bool:
        """Go on after a look at the GPUs; True if another one will be needed."""
        leases = self._gpus.leases
        for job_id in leases.holders():
            job = self._jobs.get(job_id)
            if job is not None:
                job.gpus = leases.indices(job_id)
        for ticket in self._line.for_gpus:
            is_fresh = ticket.id in self._fresh
            if ticket.gpus > leases.total and (is_fresh or not leases.seen.problem):
                why = leases.seen.problem or f"this worker has {leases.total}"
                self._refuse(ticket, ValueError(f"run(): gpus={ticket.gpus}: {why}"))
        self._turn(free=len(leases.free()))
        for fresh in tuple(self._fresh.values()):
            self._settle(fresh)
        self._tell_soon()
        return bool(self._line.for_gpus)

    def _slots(self) -> int | None:
        return None if self.limit is None else self.limit - len(self._running)

    def _alive(self) -> set[str]:
        return {
            job.id
            for job in self._jobs.current()
            if job.outcome is None and not job.place and not job.streams
        }

    # -- one job

    def _admit(self, job: Job, fresh: _Fresh) -> None:
        if fresh.ticket.gpus:
            job.place = self._line.place(job.id)
            self._fresh[job.id] = fresh
            self._gpus.look()
        elif self._line.next(slots=self._slots(), gpus=0) == fresh.ticket:
            self._line.take(fresh.ticket)
            self._begin(job, fresh.order)
        elif fresh.may_wait:
            self._wait(job, fresh)
        else:
            waiting = len(self._line) - 1
            text = f"all slots ({self.limit}) are taken; waiting for one: {waiting}"
            raise busy(text)

    def _settle(self, fresh: _Fresh) -> None:
        """Have a new job wait that could not get its GPUs at once, or refuse it."""
        ticket = fresh.ticket
        del self._fresh[ticket.id]
        job = self._jobs.find(ticket.id)
        if not fresh.may_wait:
            free = len(self._gpus.leases.free())
            text = f"{ticket.gpus} GPUs and a slot are not free now ({free} GPUs are)"
            self._refuse(ticket, busy(text))
            return
        try:
            self._wait(job, fresh)
        except OSError as exc:
            self._refuse(ticket, exc)
        else:
            for reader in job.readers:
                reader.accept()

    def _wait(self, job: Job, fresh: _Fresh) -> None:
        self._backlog.add(Order(fresh.ticket, job.started, fresh.order))
        job.place, job.is_queued = self._line.place(job.id), True

    def _start(self, ticket: Ticket) -> None:
        """Begin a job that has waited."""
        job = self._jobs.find(ticket.id)
        fresh = self._fresh.pop(job.id, None)
        try:
            order = fresh.order if fresh else self._backlog.read(job.id).spawn
            if ticket.gpus:
                devices = self._gpus.leases.lease(job.id, ticket.gpus)
                env = {**order.env, **environment(devices)}
                order = structs.replace(order, env=env)
                job.gpus = tuple(one.index for one in devices)
        except (OSError, WorkerError) as exc:
            self._end(job, failed(exc))
            return
        self._begin(job, structs.replace(order, is_awaited=True))

    def _begin(self, job: Job, order: Spawn) -> None:
        self._host.launch(job, order)
        if self.limit is not None:
            self._running.add(job.id)
        job.step_out()

    def _refuse(self, ticket: Ticket, exc: Exception) -> None:
        """End a job with an error; of one that nobody was told of nothing is left."""
        job = self._jobs.find(ticket.id)
        if job.is_queued:
            self._end(job, failed(exc))
        else:
            self._leave(job)
            self._jobs.end(job, failed(exc))
            self._jobs.forget([job.id])

    def _end(self, job: Job, outcome: Outcome) -> None:
        """End a job that has not begun; its record says so to whoever comes later."""
        try:
            outcome = self._backlog.note_end(job, outcome)
        except OSError as exc:
            logger.error("the end of job %s can't be written: %s", job.id, exc)
        self._leave(job)
        self._jobs.end(job, outcome)
        self._turn_soon()

    def _leave(self, job: Job) -> None:
        self._line.leave(job.id)
        self._fresh.pop(job.id, None)
        if job.is_queued:
            self._backlog.drop(job.id)
            job.is_queued = False
        job.step_out()

    # -- telling

    def _tell_soon(self) -> None:
        if self._is_open:
            self._news.tell_soon()

    def _tell(self) -> None:
        running = None if self.limit is None else len(self._running)
        state = {"max": self.limit, "running": running, "waiting": len(self._line)}
        self._host.tell({**state, **self._gpus.state()})
