"""What is known of each run of a sweep: for people, tables, pandas and CSV."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlepool.client.sweeps.grid import FIXED, Value
from mlepool.client.sweeps.plan import Plan, RunState
from mlepool.client.tables import Table

__all__ = ["SweepRun", "columns", "results", "table", "write_csv"]

MAX_WIDTH = 40  # characters of the last line in a table that is shown


class SweepRun:
    """One run of a sweep, as it stood when this was asked for.

    Attributes:
        number: From 0, in the order of the parameters.
        parameters: By name.
        status: WAITING, GIVEN (to a host: begun, or about to), SUCCEEDED, FAILED,
            STOPPED, TIMED_OUT, LOST, or SKIPPED: no more began.
        host: Where it runs, or has run; empty before.
        job_id: The id of the latest attempt's job, for ``attach``.
        attempts: How many were begun.
        exit_code: The exit status, negative for a signal; None before the end.
        seconds: How long the latest attempt took; None before its end.
        started: When it began, seconds since the epoch; None before its end.
        points: The last of the data points that it printed, by name.
        last: The last line that it printed, shortened.
        reason: Who or what ended it, or why it failed, where it was not itself.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        run = plan.run(number)
        end = run.end if run.state.value not in ("WAITING", "GIVEN") else None
        self.number = number
        self.parameters: dict[str, Value] = plan.grid[number]
        self.status: RunState = plan.state(number)
        self.host = run.host
        self.job_id = plan.job_id(number, run.attempt) if run.host else ""
        waits = run.state is RunState.WAITING
        self.attempts = run.attempt + (0 if waits else 1)
        self.exit_code = end.exit_code if end else None
        self.seconds = end.seconds if end else None
        self.started = end.started if end else None
        self.points: Mapping[str, int | float] = end.points if end else {}
        self.last = end.last if end else ""
        self.reason = end.reason if end else ""

    @property
    def ok(self) -> bool:
        """True if it has ended well."""
        return self.status is RunState.SUCCEEDED

    def row(self) -> dict[str, Any]:
        """Give it as a row: parameters, outcome and points side by side."""
        taken = {*FIXED, *self.parameters}
        points = {
            f"points.{name}" if name in taken else name: value
            for name, value in self.points.items()
        }
        return {
            "run": self.number,
            **self.parameters,
            "status": str(self.status),
            "exit_code": self.exit_code,
            "host": self.host,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "attempts": self.attempts,
            **points,
            "last": self.last or self.reason,
        }

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        text = f"run {self.number} ({given}) {self.status}"
        text += f" on {self.host}" if self.host else ""
        code = "" if self.exit_code is None else f", exit {self.exit_code}"
        said = self.reason or self.last
        return f"{text}{code}{f': {said}' if said else ''}"

    def __repr__(self) -> str:
        return f"<SweepRun {self}>"


def results(plan: Plan) -> Iterator[dict[str, Any]]:
    """Give all runs as rows, in their order."""
    return (SweepRun(plan, number).row() for number in range(len(plan)))


def columns(plan: Plan) -> list[str]:
    """Give the names of all columns, in order."""
    points: dict[str, None] = {}
    taken = {*FIXED, *plan.grid.names}
    for run in plan.begun():
        for name in run.end.points if run.end else ():
            points[f"points.{name}" if name in taken else name] = None
    fixed = list(FIXED)
    return [fixed[0], *plan.grid.names, *fixed[1:-1], *points, fixed[-1]]


def table(plan: Plan) -> Table:
    """Give all runs as a table."""
    names = columns(plan)
    rows = [tuple(row.get(name, "") for name in names) for row in results(plan)]
    return Table(names, [_blank(one) for one in rows], widths={"last": MAX_WIDTH})


def write_csv(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write all runs to a file, in one step: who reads it never sees half of it."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns(plan), restval="")
            writer.writeheader()
            writer.writerows(results(plan))
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _blank(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("" if one is None else one for one in row)
