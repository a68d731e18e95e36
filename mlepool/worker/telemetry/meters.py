"""Measures the host with psutil: what it does now, and what it did since last time.

All of it blocks for milliseconds, or for as long as a broken disk likes: it is called
in threads, each kind by one at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlepool.errors import WorkerError
from mlepool.wire.telemetry import (
    CpuSample,
    DiskSample,
    GpuSample,
    IoSample,
    MemorySample,
    NetworkSample,
    Sample,
    SwapSample,
)
from mlepool.worker.queue.gpus import GpuDriver
from mlepool.worker.telemetry.job_meter import JobMeter

__all__ = ["Meters"]

BASE_TIME = 0.2  # seconds to look before the first rates
MAX_ENTRIES = 256  # disks, file systems, interfaces: what a frame has room for
NO_DRIVER_FOR = 300.0  # seconds until a driver that was not there is looked for again

_MODES = CpuSample.__struct_fields__


class Meters:
    """Measures; rates count from the measurement before.

    Args:
        folder: The worker's state folder; its file system is measured as well.
        gpus: Tells of GPUs.
    """

    def __init__(self, folder: Path, gpus: GpuDriver) -> None:
        self._folders = (Path("/"), folder)
        self._gpus = gpus
        self._jobs = JobMeter(folder)
        self._rates: dict[str, Rates] = {
            kind: Rates() for kind in ("cpu", "disks", "network")
        }
        self._no_driver_until = 0.0
        self._measures: dict[str, Callable[[float], dict[str, Any]]] = {
            "cpu": self._cpu,
            "memory": _memory,
            "disks": self._disks,
            "network": self._network,
            "gpus": self._look_at_gpus,
        }

    def measure(self, kinds: Collection[str], jobs: Mapping[str, int]) -> Sample:
        """Measure now.

        Args:
            kinds: Some of :data:`~mlepool.wire.telemetry.KINDS`.
            jobs: The first process of each job, by the job's id.
        """
        self._take_base(kinds)
        now = time.monotonic()
        values: dict[str, Any] = {}
        for kind in kinds:
            if kind == "jobs":
                values["jobs"] = self._jobs.measure(jobs, now)
            else:
                values |= self._measures[kind](now)
        return Sample(time=time.time(), **values)

    def cpu_seconds(self) -> list[dict[str, float]]:
        """Give each core's seconds by mode, as of the latest measurement."""
        return [dict(zip(_MODES, one, strict=True)) for one in self._rates["cpu"].rows]

    def _take_base(self, kinds: Collection[str]) -> None:
        """Look for the first time, where rates need that, and wait a little."""
        new = [one for one in kinds if one in self._rates and self._rates[one].is_new]
        for kind in new:
            self._measures[kind](time.monotonic())
        if new:
            time.sleep(BASE_TIME)

    def _cpu(self, now: float) -> dict[str, Any]:
        import psutil

        rows = [
            tuple(getattr(one, mode, 0.0) for mode in _MODES)
            for one in psutil.cpu_times(percpu=True)
        ]
        deltas = self._rates["cpu"].take(now, dict(enumerate(rows)))
        cpu = tuple(_percent(deltas[number]) for number in range(len(rows)))
        return {"cpu": cpu, "load": psutil.getloadavg()}

    def _disks(self, now: float) -> dict[str, Any]:
        import psutil

        found = psutil.disk_io_counters(perdisk=True, nowrap=True) or {}
        rows = {
            name: (
                *(one.read_count, one.write_count),
                *(one.read_bytes, one.write_bytes),
            )
            for name, one in sorted(found.items())[:MAX_ENTRIES]
            if one.read_count or one.write_count
        }
        rates = self._rates["disks"].take(now, rows)
        span = self._rates["disks"].span
        io = tuple(
            IoSample(name, *rows[name], rates[name][2] / span, rates[name][3] / span)
            for name in rows
        )
        return {"io": io, "disks": tuple(self._file_systems())[:MAX_ENTRIES]}

    def _network(self, now: float) -> dict[str, Any]:
        import psutil

        found = psutil.net_io_counters(pernic=True, nowrap=True) or {}
        rows = {name: found[name][:8] for name in sorted(found)[:MAX_ENTRIES]}
        rates = self._rates["network"].take(now, rows)
        span = self._rates["network"].span
        network = tuple(
            NetworkSample(*(name, *row, *(one / span for one in rates[name][:2])))
            for name, row in rows.items()
        )
        return {"network": network}

    def _file_systems(self) -> Iterator[DiskSample]:
        """Look at the file systems of disks, not at those of a network: they hang."""
        import psutil

        places = {one.mountpoint: one for one in psutil.disk_partitions(all=True)}
        local = [one.mountpoint for one in psutil.disk_partitions(all=False)]
        ours = [_mount_of(one) for one in self._folders]
        seen: set[int] = set()
        for mountpoint in dict.fromkeys((*ours, *local)):
            try:
                device = os.stat(mountpoint).st_dev
                if device in seen or not os.path.isdir(mountpoint):
                    continue
                usage = psutil.disk_usage(mountpoint)
            except OSError:
                continue
            seen.add(device)
            place = places.get(mountpoint)
            names = (place.device, place.fstype) if place else ("", "")
            yield DiskSample(mountpoint, *names, *usage)

    def _look_at_gpus(self, now: float) -> dict[str, Any]:
        if now < self._no_driver_until:
            return {"gpus": ()}
        try:
            devices = self._gpus.devices()
        except WorkerError:
            self._no_driver_until = now + NO_DRIVER_FOR
            return {"gpus": ()}
        gpus = tuple(
            GpuSample(
                *(one.index, one.uuid, one.name, one.memory_total, one.memory_used),
                utilization=one.utilization,
                temperature=one.temperature,
                power=one.power,
            )
            for one in devices[:MAX_ENTRIES]
        )
        return {"gpus": gpus}


class Rates:
    """Counters, and how much they have grown since the look before.

    Attributes:
        span: Seconds between the two looks.
        rows: The latest counters.
    """

    def __init__(self) -> None:
        self.span = 1.0
        self._when = 0.0
        self._rows: dict[Any, tuple[float, ...]] = {}
        self.is_new = True

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """Give the latest counters."""
        return list(self._rows.values())

    def take(
        self, now: float, rows: Mapping[Any, tuple[float, ...]]
    ) -> dict[Any, tuple[float, ...]]:
        """Take counters; of what was not there before nothing is said to have grown."""
        if not self.is_new:
            self.span = max(now - self._when, 1e-3)
        grown = {name: _grown(rows[name], self._rows.get(name)) for name in rows}
        self._when, self._rows, self.is_new = now, dict(rows), False
        return grown


def _grown(
    row: tuple[float, ...], before: tuple[float, ...] | None
) -> tuple[float, ...]:
    """Give how much counters have grown; some go back, in virtual machines."""
    pairs = zip(row, before or row, strict=True)
    return tuple(max(0.0, new - old) for new, old in pairs)


def _percent(grown: tuple[float, ...]) -> CpuSample:
    # What guests use is counted as the user's, too.
    whole = sum(grown) - grown[_MODES.index("guest")]
    if whole <= 0:
        return CpuSample(idle=100.0)
    return CpuSample(*(round(100.0 * one / whole, 2) for one in grown))


def _memory(now: float) -> dict[str, Any]:
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory": MemorySample(
            *(memory.total, memory.available, memory.used, memory.free, memory.percent)
        ),
        "swap": SwapSample(*swap),
    }


def _mount_of(folder: Path) -> str:
    """Give the place where the file system of a folder is mounted."""
    place = os.path.realpath(folder)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place
