"""How jobs' ends are told: as safe from harm as was asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mlepool.supervisor.chores import Chores
from mlepool.supervisor.files import Syncer
from mlepool.supervisor.job import Job
from mlepool.supervisor.ledger import Ledger
from mlepool.supervisor.messages import JobEnded
from mlepool.supervisor.timers import Timers

__all__ = ["Endings"]

SAVE_AGAIN = 2.0  # seconds before an end that could not be written is tried again


class Endings:
    """Tells of ends, and lets go of jobs whose end is in their journal.

    Args:
        jobs: The jobs that are held, by id.
        timers: What calls us again.
        chores: What is done once the worker has been told.
        syncer: Makes journals safe from a loss of power.
        ledger: Says which jobs are open; those whose end is written leave it.
        send: Tells the worker.
    """

    def __init__(
        self,
        jobs: dict[str, Job],
        timers: Timers,
        *,
        chores: Chores,
        syncer: Syncer,
        ledger: Ledger,
        send: Callable[[Any], None],
    ) -> None:
        self._jobs = jobs
        self._timers = timers
        self._chores = chores
        self._syncer = syncer
        self._ledger = ledger
        self._send = send

    def announce(self, job: Job, *, durability: str) -> None:
        """Tell of a job's end, once it is as safe as was asked for."""
        if not job.recorder.is_saved:
            self._tell(job)
            self._try_later(job)
            return
        if durability == "power":
            self._put_away(job, then=functools.partial(self._tell, job))
        else:
            self._tell(job)
            self._chores.add(functools.partial(self._put_away, job))

    def tell_again(self, job: Job) -> None:
        """Tell of an end that was told, or is about to be."""
        if not job.recorder.is_saved:
            self._tell(job)

    def _put_away(self, job: Job, then: Callable[[], None] | None = None) -> None:
        self._ledger.leave(job.id)
        self._syncer.add(job.recorder.release(), then)

    def _tell(self, job: Job) -> None:
        assert job.outcome is not None
        self._send(JobEnded(job.id, job.outcome, job.recorder.take_fresh()))
        if job.recorder.is_saved:
            self._jobs.pop(job.id, None)  # else the next worker is told, too

    def _try_later(self, job: Job) -> None:
        self._timers.after(SAVE_AGAIN, functools.partial(self._save_again, job))

    def _save_again(self, job: Job) -> None:
        """Write an end for which there was no room: there may be some by now."""
        assert job.outcome is not None
        if job.recorder.save(job.outcome):
            self._put_away(job)
            self._jobs.pop(job.id, None)
        else:
            self._try_later(job)
