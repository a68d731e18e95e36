"""What a sweep's driver needs of the place where its plan is kept."""

from __future__ import annotations

from typing import Protocol

from mlepool.client.sweeps.plan import Plan
from mlepool.client.sweeps.records import Record

__all__ = ["Book"]


class Book(Protocol):
    """Where a plan is kept: a :class:`~mlepool.client.sweeps.plan_file.PlanFile`.

    Attributes:
        plan: What it says.
    """

    plan: Plan

    def note(self, record: Record) -> None:
        """Change the plan, and have that written with the next :meth:`write`."""

    def write(self) -> None:
        """Give all that was noted to the system."""

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""

    def close(self) -> None:
        """Write what is still to be written, and unlock."""
