"""Sentences and columns for people: hosts, durations, jobs, reports of a stop."""

from __future__ import annotations

import shlex
import time
from typing import NamedTuple

from mlepool.cli.streams import complain
from mlepool.wire.values import StopReport

__all__ = [
    "ago",
    "clock",
    "come_back",
    "complain",
    "in_words",
    "visible",
]


class _Unit(NamedTuple):
    """A unit of time, and the one in which the rest is given."""

    name: str
    seconds: int
    part: str
    part_seconds: int


UNITS = (
    _Unit("d", 86400, "h", 3600),
    _Unit("h", 3600, "min", 60),
    _Unit("min", 60, "s", 1),
)
MAX_COMMAND = 60  # characters of a process's command line in a report


def come_back(job_id: str, host: str) -> str:
    """Say of a job that was left how to come back to it."""
    return (
        f"job {job_id} goes on on {host}; come back with: "
        f"mlepool attach {job_id} -H {shlex.quote(host)}"
    )


def in_words(report: StopReport, host: str) -> list[str]:
    """Say what a stop has done: a line, and one for each process that is left."""
    head = f"job {report.job_id} on {host}"
    if report.was_waiting:
        return [f"{head}: waited in line, and will not begin ({report.status})"]
    if not report.signalled and report.complete:
        return [f"{head}: had ended before ({report.status})"]
    sent = ", ".join(
        f"{one.signal} to {_process(one.pid, one.command)}" for one in report.signalled
    )
    what = "all dead" if report.complete else f"{len(report.survivors)} left"
    left = [
        f"  left: {_process(one.pid, one.command)}: {one.cause}"
        for one in report.survivors
    ]
    after = f"{what} after {report.seconds:.2f} s"
    return [f"{head}: {after}: {sent or 'no signal'}", *left]


def visible(text: str) -> str:
    """Make one line of a text from elsewhere: nothing in it steers a terminal."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


def clock(seconds: float) -> str:
    """Give a time as the local clock shows it; ``seconds`` since the epoch."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def ago(seconds: float) -> str:
    """Give a duration by its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    unit = next(one for one in UNITS if whole >= one.seconds)
    rest = whole % unit.seconds // unit.part_seconds
    return f"{whole // unit.seconds} {unit.name} {rest} {unit.part}"


def _process(pid: int, command: str) -> str:
    text = visible(command)
    short = text if len(text) <= MAX_COMMAND else f"{text[: MAX_COMMAND - 3]}..."
    return f"{pid} ({short})" if short else str(pid)
