"""How the runs of a sweep stand, and its hosts."""

from __future__ import annotations

import os
import time
from typing import Any

from mlepool.client.handles import Handle
from mlepool.client.sweeps.driver import Driver
from mlepool.client.sweeps.member import UNTRIED
from mlepool.client.sweeps.plan import Plan, RunState
from mlepool.client.sweeps.prospects import standstill
from mlepool.client.sweeps.rows import SweepRun, results, table, write_csv
from mlepool.client.tables import Table

__all__ = ["SweepFacts"]


class SweepFacts(Handle):
    """How the runs of a sweep stand, and its hosts.

    Args:
        driver: What drives it.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._before = len(driver.finished)

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are at what: by status, and only those that are any."""
        plan = self._plan
        waiting = "WAITING" if plan.halted is None else "SKIPPED"
        counts = {str(one): plan.counts[one] for one in RunState}
        counts[waiting] = plan.waiting
        return {name: count for name, count in counts.items() if count > 0}

    @property
    def done(self) -> bool:
        """True once nothing runs, and nothing more will."""
        return self._plan.is_over

    @property
    def ok(self) -> bool:
        """True once all runs have ended well."""
        return self._plan.counts[RunState.SUCCEEDED] == len(self)

    @property
    def left(self) -> float | None:
        """Seconds until all is done, about; None where that can't be told."""
        plan, driver = self._plan, self._driver
        ended = len(driver.finished) - self._before
        if self.done or not ended or plan.halted is not None:
            return None
        rate = ended / max(1e-6, time.monotonic() - driver.began)
        return (plan.waiting + plan.given) / rate

    @property
    def succeeded(self) -> list[int]:
        """The numbers of the runs that have ended well."""
        return self._numbers(RunState.SUCCEEDED)

    @property
    def failed(self) -> list[int]:
        """The numbers of those that have not: FAILED, TIMED_OUT, STOPPED and LOST."""
        bad = (RunState.FAILED, RunState.TIMED_OUT, RunState.STOPPED, RunState.LOST)
        return self._numbers(*bad)

    @property
    def running(self) -> list[int]:
        """The numbers of those that have begun and not ended, as far as is known."""
        members = self._driver.members.values()
        return sorted(n for one in members for n in (*one.running, *one.orphans))

    @property
    def problem(self) -> str:
        """What holds it up, in words; empty if nothing does."""
        if self._driver.problem:
            return self._driver.problem
        if self.done or any(one.is_ready for one in self._driver.members.values()):
            return ""
        members = self._driver.members.values()
        if any(one.problem == UNTRIED for one in members):
            return ""  # it has just begun
        return standstill(members)

    def hosts(self) -> Table:
        """Give a table of the hosts: how they stand, their slots, what runs there."""
        rows = [
            (one.name, str(one.phase), one.slots, one.held, one.problem)
            for one in self._driver.members.values()
        ]
        return Table(("host", "state", "slots", "running", "problem"), rows)

    def table(self) -> Table:
        """Give all runs: parameters, status, exit code, host, seconds, points..."""
        return table(self._plan)

    def rows(self) -> list[dict[str, Any]]:
        """Give the same as dicts: ``pandas.DataFrame(sweep.rows())``."""
        return list(results(self._plan))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the same to a file; what was there is replaced as a whole.

        Raises:
            OSError: If it can't be written.
        """
        write_csv(self._plan, path)

    def __len__(self) -> int:
        return len(self._plan)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, number: int) -> SweepRun:
        return SweepRun(self._plan, number)

    # -- within

    @property
    def _plan(self) -> Plan:
        return self._driver.plan

    def _numbers(self, *states: RunState) -> list[int]:
        found = [one.number for one in self._plan.begun() if one.state in states]
        return sorted(found)

    def _parts(self) -> list[str]:
        """Say how many runs stand how, and how long it will take."""
        plan = self._plan
        parts = [f"{plan.counts[RunState.SUCCEEDED]} done"]
        parts += [f"{plan.failed} failed"] if plan.failed else []
        running = sum(one.held for one in self._driver.members.values())
        parts += [f"{running} running"] if running else []
        waiting = plan.waiting + plan.given - running
        if waiting:
            rest = "to go" if plan.halted is None else "skipped"
            parts.append(f"{waiting} {rest}")
        if self.left is not None:
            parts.append(f"~{_in_words(self.left)}")
        return parts


def _in_words(seconds: float) -> str:
    if seconds < 99:
        return f"{seconds:.0f} s"
    if seconds < 99 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
