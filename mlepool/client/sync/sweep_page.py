"""What notebooks show of a sweep: how far it is, where it runs, what needs a look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlepool.client.html import Cell, line_of, page, progress_bar, table
from mlepool.client.sweeps.rows import SweepRun
from mlepool.client.sweeps.sweep import AsyncSweep

__all__ = ["sweep_page"]

SHOWN_RUNS = 12  # of those that failed, and of those that run
SHOWN_HOSTS = 20
COMMAND_WIDTH = 200  # characters


def sweep_page(sweep: AsyncSweep) -> str:
    """Show a sweep: its counts, the hosts, the runs that failed, and those that run."""
    total = len(sweep)
    ended = len(sweep.succeeded) + len(sweep.failed)
    counts = [f"{count:,} {status}" for status, count in sweep.counts.items() if count]
    left = "" if sweep.left is None or sweep.done else f"about {sweep.left:.0f} s to go"
    chosen = [*sweep.failed[-SHOWN_RUNS:], *sweep.running[:SHOWN_RUNS]]
    return page(
        line_of([Cell(sweep.command[:COMMAND_WIDTH], "code"), f"{total:,} runs"]),
        progress_bar(100 * ended / total if total else None, ", ".join(counts)),
        line_of([left, Cell(sweep.problem, "why")]),
        _hosts(sweep) if not sweep.done else "",
        _runs(sweep[number] for number in dict.fromkeys(chosen)),
    )


def _hosts(sweep: AsyncSweep) -> str:
    found = sweep.hosts()
    return table(found.headers, found.rows[:SHOWN_HOSTS]) if found.rows else ""


def _runs(runs: Iterable[SweepRun]) -> str:
    rows = [_row(one) for one in runs]
    return table(("run", "", "", "host", "took", "said"), rows) if rows else ""


def _row(run: SweepRun) -> tuple[Any, ...]:
    given = ", ".join(f"{name}={value}" for name, value in run.parameters.items())
    # What was given to a host and has not ended runs, as far as is known.
    status = "RUNNING" if run.status == "GIVEN" else str(run.status)
    return (
        Cell(run.number, "number"),
        given,
        Cell(status, "status"),
        run.host,
        Cell("" if run.seconds is None else f"{run.seconds:.1f} s", "number"),
        Cell(run.reason or run.last, "code"),
    )
