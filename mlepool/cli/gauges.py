"""What a host is doing, in a row of a table or an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from mlepool.cli.bars import size
from mlepool.client.connection import AsyncConnection
from mlepool.wire.telemetry import GpuSample, Sample

__all__ = ["HEADERS", "Gauge", "summary"]

HEADERS = (
    *("host", "status", "jobs", "cpu", "load", "memory", "gpu", "disk", "rtt"),
    "note",
)


class Gauge(NamedTuple):
    """One host, as it was at the latest look.

    Attributes:
        host: Its name.
        state: What its worker tells of itself; None before it was reached.
        sample: What it measured last; None if that is not known.
        problem: Why it can't be asked; empty if it can.
        rtt: Seconds of a round trip; None if that is not known.
    """

    host: str
    state: dict[str, Any] | None = None
    sample: Sample | None = None
    problem: str = ""
    rtt: float | None = None

    @classmethod
    def of(
        cls, connection: AsyncConnection, sample: Sample | None, problem: str
    ) -> Gauge:
        """Read a connection."""
        state = connection.state if "id" in connection.state else None
        return cls(connection.name, state, sample, problem, connection.rtt)

    @property
    def status(self) -> str:
        """What it is at: LOST if it could be asked before, DOWN if it never could."""
        if self.problem:
            return "LOST" if self.state else "DOWN"
        return str((self.state or {}).get("run_status", "..."))

    @property
    def running(self) -> int:
        """How many jobs run there, as far as that is known."""
        return len(self.sample.jobs or ()) if self.sample is not None else 0

    @property
    def waiting(self) -> int:
        """How many jobs wait in line there, as far as that is known."""
        slots = (self.state or {}).get("slots") or {}
        return int(slots.get("waiting") or 0)

    def row(self) -> tuple[str, ...]:
        """Give it as a row; what was measured before it was lost is not shown."""
        sample = self.sample
        if self.problem or sample is None:
            return (self.host, self.status, *[""] * (len(HEADERS) - 3), self.problem)
        memory, load = sample.memory, sample.load
        return (
            self.host,
            self.status,
            f"{self.running}+{self.waiting}" if self.waiting else str(self.running),
            _percent(sample.cpu_percent),
            "" if load is None else f"{load[0]:.1f}/{len(sample.cpu or ()) or '?'}",
            "" if memory is None else f"{memory.percent:.0f} % of {size(memory.total)}",
            _gpus(sample.gpus or ()),
            _percent(max((one.percent for one in sample.disks or ()), default=None)),
            "" if self.rtt is None else f"{self.rtt * 1000:.1f} ms",
            "",
        )

    def in_json(self) -> dict[str, Any]:
        """Give it as an object."""
        sample = None if self.problem else self.sample
        memory = None if sample is None else sample.memory
        gpus = () if sample is None else sample.gpus or ()
        return {
            "host": self.host,
            "status": self.status,
            "problem": self.problem,
            "running": self.running,
            "waiting": self.waiting,
            "time": None if sample is None else sample.time,
            "cpu_percent": None if sample is None else sample.cpu_percent,
            "load": None if sample is None else sample.load,
            "memory": None if memory is None else structs.asdict(memory),
            "gpus": [structs.asdict(one) for one in gpus],
            "rtt": self.rtt,
        }


def summary(gauges: Sequence[Gauge]) -> str:
    """Say in a line how all of them are."""
    lost = sum(bool(one.problem) for one in gauges)
    running = sum(one.running for one in gauges if not one.problem)
    waiting = sum(one.waiting for one in gauges if not one.problem)
    busy = list(_known(gauges))
    cpu = f", cpu {sum(busy) / len(busy):.0f} %" if busy else ""
    hosts = "1 host" if len(gauges) == 1 else f"{len(gauges)} hosts"
    missing = f", {lost} not reached" if lost else ""
    line = f", {waiting} in line" if waiting else ""
    return f"{hosts}{missing}; {running} jobs run{line}{cpu}"


def _known(gauges: Iterable[Gauge]) -> Iterable[float]:
    for one in gauges:
        percent = None if one.sample is None else one.sample.cpu_percent
        if percent is not None and not one.problem:
            yield percent


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _gpus(gpus: Sequence[GpuSample]) -> str:
    """Give all GPUs of a host: how busy, and how full."""
    if not gpus:
        return ""
    busy = [one.utilization for one in gpus if one.utilization is not None]
    total = sum(one.memory_total for one in gpus)
    full = 100 * sum(one.memory_used for one in gpus) / total if total else 0.0
    mean = _percent(sum(busy) / len(busy)) if busy else "?"
    return f"{len(gpus)}: {mean}, memory {full:.0f} %"
