"""How long a sweep's runs take, and what hosts are given ahead by that."""

from __future__ import annotations

__all__ = ["Pace"]

QUICK = 0.5  # seconds; of runs that take less, hosts are given the next ones early
RESERVE = 2  # for each slot, of such runs
WEIGHT = 0.2  # of the latest run in the mean of how long they take


class Pace:
    """How long runs take, about.

    Attributes:
        mean: In seconds; None before the first has ended.
    """

    def __init__(self) -> None:
        self.mean: float | None = None

    @property
    def is_quick(self) -> bool:
        """True if runs take so little that hosts should have some in reserve."""
        return self.mean is not None and self.mean < QUICK

    def note(self, seconds: float) -> bool:
        """Take up how long a run has taken.

        Returns:
            True if hosts may hold another number of runs from now on.
        """
        before, was_quick = self.mean, self.is_quick
        self.mean = seconds if before is None else before + WEIGHT * (seconds - before)
        return was_quick != self.is_quick

    def room(self, slots: int) -> int:
        """Give how much a host may hold: of short runs, some that wait for a slot."""
        return slots * (1 + RESERVE) if self.is_quick else slots
