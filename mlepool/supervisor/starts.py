"""Starting jobs: those that are asked for at the same time, side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlepool.config import Limits
from mlepool.supervisor.cgroups import Slot, Slots
from mlepool.supervisor.files import look_at_disk
from mlepool.supervisor.job import Job
from mlepool.supervisor.ledger import Ledger
from mlepool.supervisor.messages import Greet, Spawn, Spawned
from mlepool.supervisor.starters import Starters
from mlepool.wire.messages import Failure

__all__ = ["Starts"]


class _Entry(NamedTuple):
    """A job that is about to be started."""

    order: Spawn
    slot: Slot | None
    is_new: bool = False  # in the ledger


class Starts:
    """Makes jobs of orders. An order that can't be noted, or begun, is refused.

    Args:
        folder: Where journals are.
        ledger: Says which jobs are open.
        slots: Control groups for jobs.
        begun: Called with each new job, whose program may have failed to start.
        refused: Called with the answer to an order of which there is no job.

    Attributes:
        limits: What a job may take, by the last greeting.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        slots: Slots,
        *,
        begun: Callable[[Job], None],
        refused: Callable[[Spawned], None],
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._slots = slots
        self._begun = begun
        self._refused = refused
        self._starters = Starters()
        self._orders: list[Spawn] = []
        self._environment: dict[bytes, bytes] = {}
        self._disk_size = look_at_disk(folder).size
        self.limits = Limits()

    def greeted(self, greet: Greet) -> None:
        """Know what the worker gives jobs from now on."""
        self._environment, self.limits = greet.environment, greet.limits
        self._disk_size = look_at_disk(self._folder).size

    def is_waiting(self, job_id: str) -> bool:
        """Tell if there is such an order that is still to be begun."""
        if not self._orders:
            return False
        return any(order.id == job_id for order in self._orders)

    def collect(self, order: Spawn) -> None:
        """Keep an order, for :meth:`begin`."""
        self._orders.append(order)

    def begin(self) -> None:
        """Start the jobs that were asked for."""
        orders, self._orders = self._orders, []
        if len(orders) == 1:
            self._begin_alone(orders[0])
        elif orders:
            self._begin_together(orders)

    def _begin_alone(self, order: Spawn) -> None:
        entry = self._enter(order)
        if entry is not None:
            try:
                job = self._make(entry)
            except Exception as exc:
                # The top of a start: whatever it was, who has asked for it is told.
                self._refuse(entry, exc)
            else:
                self._begun(job)

    def _begin_together(self, orders: list[Spawn]) -> None:
        entries = [one for one in map(self._enter, orders) if one is not None]
        aside = len(entries) > 1 and self._starters.is_able
        starts = [functools.partial(self._make, one, aside=aside) for one in entries]
        for entry, job in zip(entries, self._starters.call(starts), strict=True):
            if isinstance(job, Exception):
                self._refuse(entry, job)
            else:
                self._begun(job)

    def _enter(self, order: Spawn) -> _Entry | None:
        """Note that a job is open; if that can't be noted, say so and give None."""
        slot = self._slots.take()
        try:
            return _Entry(order, slot, self._ledger.enter(order.id))
        except OSError as exc:
            self._refuse(_Entry(order, slot), exc)
            return None

    def _make(self, entry: _Entry, *, aside: bool = False) -> Job:
        """Start a job; in a thread beside others if there are several."""
        return Job(
            entry.order,
            self._folder,
            self._environment,
            limits=self.limits,
            disk_size=self._disk_size,
            slot=entry.slot,
            aside=aside,
        )

    def _refuse(self, entry: _Entry, exc: Exception) -> None:
        """Say that a job's journal can't be made."""
        if entry.is_new:
            self._ledger.leave(entry.order.id)
        self._slots.give_back(entry.slot)
        number = getattr(exc, "errno", None)
        failure = Failure(type(exc).__name__, str(exc), "", number)
        self._refused(Spawned(entry.order.id, failure=failure))
