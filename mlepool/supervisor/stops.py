"""The stops that are under way: each goes on until there is proof."""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from mlepool.supervisor.messages import Stop
from mlepool.supervisor.processes import Process
from mlepool.supervisor.stop import POLL, Stopping
from mlepool.supervisor.timers import Timers
from mlepool.wire.messages import Outcome
from mlepool.wire.values import StopReport

__all__ = ["Stoppable", "Stops"]

CLOSE_PIPES_AFTER = 1.0  # seconds after a stop that a survivor may hold our pipes


class Stoppable(Protocol):
    """A job, as far as it is stopped."""

    id: str
    pipes: dict[int, int]
    outcome: Outcome | None
    stopping: Stopping | None

    def living(self, leaders: Callable[[], list[int]]) -> list[Process]:
        """Find its living processes."""


class Stops:
    """Stops jobs, side by side.

    Args:
        timers: What calls us again.
        leaders: Gives the first processes of all jobs.
        settle: Ends a job if it can be ended now.
        close_pipes: Closes what survivors hold open.
        report: Takes the report of each stop.
    """

    def __init__(
        self,
        timers: Timers,
        *,
        leaders: Callable[[], Iterable[int]],
        settle: Callable[[Stoppable], None],
        close_pipes: Callable[[Stoppable], None],
        report: Callable[[StopReport], None],
    ) -> None:
        self._timers = timers
        self._leaders = leaders
        self._settle = settle
        self._close_pipes = close_pipes
        self._report = report

    def begin(self, job: Stoppable, stop: Stop) -> None:
        """Stop a job; a second stop while one is under way hurries it."""
        if job.stopping is not None and not job.stopping.is_over:
            job.stopping.hurry(stop.signal)
        else:
            job.stopping = Stopping(
                stop.signal,
                stop.grace,
                lambda: job.living(lambda: list(self._leaders())),
                now=time.monotonic(),
                reason=stop.reason,
            )
            self._go_on(job, job.stopping)
        self._report_when_over(job, job.stopping)

    def _go_on(self, job: Stoppable, stopping: Stopping) -> None:
        # Without a free descriptor nobody can be looked at: look again, it is not over.
        with contextlib.suppress(OSError):
            stopping.advance(time.monotonic())
        if not stopping.is_over:
            self._timers.after(POLL, lambda: self._go_on(job, stopping))
            return
        self._settle(job)
        if job.outcome is None:
            self._timers.after(CLOSE_PIPES_AFTER, lambda: self._close_pipes(job))

    def _report_when_over(self, job: Stoppable, stopping: Stopping) -> None:
        if job.outcome is not None and stopping.is_over:
            status = job.outcome.status
        elif stopping.has_survivors and not job.pipes:
            status = "RUNNING"  # its first process itself hangs and can't be reaped
        else:
            self._timers.after(POLL, lambda: self._report_when_over(job, stopping))
            return
        self._report(stopping.report(job.id, status))
