"""What is to be run, and how far it has come: all that a sweep's file says."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mlepool.client.sweeps.grid import Grid, Value
from mlepool.client.sweeps.records import (
    Buried,
    Ended,
    GaveUp,
    Given,
    Halted,
    Head,
    Host,
    Record,
    Repeated,
    Synced,
    TakenBack,
)
from mlepool.client.sweeps.template import Template

__all__ = ["FINAL", "Plan", "Run", "RunState"]

RUN_FIELD = "run"  # a field that each command may have: the run's number


class RunState(enum.StrEnum):
    """What a run is at.

    WAITING for a slot. GIVEN to a host: only there may it run, from now on. Then how
    it ended; LOST if nobody knows. SKIPPED is one that waits, and won't begin.
    """

    WAITING = "WAITING"
    GIVEN = "GIVEN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    SKIPPED = "SKIPPED"


_ENDS = ("SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT", "LOST")
FINAL = frozenset(RunState(one) for one in _ENDS)

# What becomes of a run. What is not here is an error.
TRANSITIONS: dict[tuple[RunState, str], RunState] = {
    (RunState.WAITING, "given"): RunState.GIVEN,
    (RunState.GIVEN, "taken back"): RunState.WAITING,
    (RunState.GIVEN, "given up"): RunState.WAITING,
    **{(RunState.GIVEN, one): RunState(one) for one in _ENDS},
    **{(RunState(one), "repeated"): RunState.WAITING for one in _ENDS},
}


class Run:
    """One run of a sweep, as far as it has come.

    Attributes:
        number: From 0.
        state: What it is at.
        attempt: Which attempt at it this is, from 0.
        host: Where it runs, or has run.
        given: When it was given to that host, seconds since the epoch.
        failures: How many attempts have failed.
        losses: How many were lost.
        end: How it ended, or the last attempt at it.
    """

    __slots__ = (
        *("attempt", "end", "failures", "given", "host"),
        *("losses", "number", "state"),
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = RunState.WAITING
        self.attempt = 0
        self.host = ""
        self.given = 0.0
        self.failures = 0
        self.losses = 0
        self.end: Ended | None = None

    def move(self, event: str) -> None:
        """Change its state.

        Raises:
            KeyError: If that can't happen in its state.
        """
        self.state = TRANSITIONS[self.state, event]


class Plan:
    """All runs of a sweep. It changes by records only, live or when its file is read.

    Runs that nobody has looked at take no memory.

    Args:
        head: What is to be run.

    Attributes:
        head: As given.
        grid: The runs' parameters.
        template: The command.
        hosts: The workers' ids, by host.
        synced: What was synced, by host: its digest.
        counts: How many runs are in each state; those that wait are not counted.
        zombies: By host, attempts that were given up: to be ended there.
        halted: Why no more begin; None if they do.

    Raises:
        ValueError: If the head makes no sense.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self.grid = Grid(head.axes, head.rows)
        self.template = Template(head.command)
        self.hosts: dict[str, str] = {}
        self.synced: dict[str, str] = {}
        self.counts: Counter[RunState] = Counter()
        self.zombies: dict[str, set[tuple[int, int]]] = {}
        self.halted: Halted | None = None
        self._runs: dict[int, Run] = {}
        self._fresh = 0  # runs from this number on were never given to anybody
        self._again: dict[int, None] = {}  # those that wait once more, in order

    def __len__(self) -> int:
        return len(self.grid)

    # -- looking

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self) - self._fresh + len(self._again)

    @property
    def given(self) -> int:
        """How many belong to a host now."""
        return self.counts[RunState.GIVEN]

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(self.counts[one] for one in FINAL)

    @property
    def failed(self) -> int:
        """How many have ended, and not well."""
        return self.ended - self.counts[RunState.SUCCEEDED]

    @property
    def undead(self) -> list[str]:
        """The hosts on which attempts that were given up may still run."""
        return [host for host, attempts in self.zombies.items() if attempts]

    @property
    def is_over(self) -> bool:
        """True if nothing runs, and nothing more will."""
        return not self.given and (not self.waiting or self.halted is not None)

    def run(self, number: int) -> Run:
        """Give a run.

        Raises:
            IndexError: If there is none of this number.
        """
        found = self._runs.get(number)
        if found is None:
            if not 0 <= number < len(self):
                raise IndexError(f"there is no run {number}, but {len(self)} of them")
            found = Run(number)
        return found

    def begun(self) -> Iterator[Run]:
        """Give the runs that were given to somebody at least once."""
        return iter(self._runs.values())

    def state(self, number: int) -> RunState:
        """Give what a run is at, for people."""
        state = self.run(number).state
        if state is RunState.WAITING and self.halted is not None:
            return RunState.SKIPPED
        return state

    def values(self, number: int) -> dict[str, Value]:
        """Give what fills the fields of a run."""
        return {RUN_FIELD: number, **self.grid[number]}

    def job_id(self, number: int, attempt: int) -> str:
        """Give the id of the job that is an attempt at a run."""
        return f"{self.head.id}-{number}-{attempt}"

    def next(self) -> int | None:
        """Give the number of the run that comes next; None if none is to begin."""
        if self.halted is not None:
            return None
        for number in self._again:
            return number
        return self.next_fresh()

    def next_fresh(self) -> int | None:
        """Give the next of the runs that were never given to anybody."""
        return self._fresh if self._fresh < len(self) else None

    def may_fail(self) -> bool:
        """Tell if no more have failed than may."""
        limit = self.head.max_failures
        if isinstance(limit, str):
            return self.failed * 100 <= float(limit.rstrip("%")) * len(self)
        return limit is None or self.failed <= limit

    # -- changes

    def apply(self, record: Record) -> None:
        """Take what a record says.

        Raises:
            ValueError: If it can't be: the file is damaged.
        """
        try:
            _APPLY[type(record)](self, record)
        except (KeyError, IndexError) as exc:
            raise ValueError(f"{record!r} can't be at this place") from exc

    def _given(self, record: Given) -> None:
        number = record.run
        run = self._runs.get(number)
        if run is None:
            if number != self._fresh or number >= len(self):
                raise KeyError(number)
            run = self._runs[number] = Run(number)
            self._fresh += 1
        else:
            del self._again[number]
        if record.attempt != run.attempt:
            raise KeyError(record.attempt)
        run.host, run.given = record.host, record.time
        self._move(run, "given")

    def _taken_back(self, record: TakenBack) -> None:
        run = self._runs[record.run]
        self._move(run, "taken back")
        self._again[run.number] = None

    def _ended(self, record: Ended) -> None:
        run = self._runs[record.run]
        self._move(run, record.status)
        run.end = record

    def _repeated(self, record: Repeated) -> None:
        run = self._runs[record.run]
        if run.state is RunState.LOST:
            run.losses += 1
        else:
            run.failures += 1
        self._move(run, "repeated")
        self._wait_again(run)

    def _gave_up(self, record: GaveUp) -> None:
        run = self._runs[record.run]
        self._move(run, "given up")
        dead = self.zombies.setdefault(run.host, set())
        dead.add((run.number, run.attempt))
        self._wait_again(run)

    def _buried(self, record: Buried) -> None:
        self.zombies[record.host].discard((record.run, record.attempt))

    def _halted(self, record: Halted) -> None:
        self.halted = record if record.reason else None

    def _met(self, record: Host) -> None:
        self.hosts[record.name] = record.worker

    def _synced(self, record: Synced) -> None:
        self.synced[record.host] = record.digest

    def _wait_again(self, run: Run) -> None:
        run.attempt += 1
        self._again[run.number] = None

    def _move(self, run: Run, event: str) -> None:
        self.counts[run.state] -= 1  # of WAITING it says nothing: see ``waiting``
        run.move(event)
        self.counts[run.state] += 1


_APPLY: dict[type, Any] = {
    Host: Plan._met,
    Synced: Plan._synced,
    Given: Plan._given,
    TakenBack: Plan._taken_back,
    Ended: Plan._ended,
    Repeated: Plan._repeated,
    GaveUp: Plan._gave_up,
    Buried: Plan._buried,
    Halted: Plan._halted,
}
