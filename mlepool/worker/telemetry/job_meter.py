"""Measures jobs: what the whole tree of processes of each one uses, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mlepool.supervisor.processes import JOB_VARIABLE, boot_ticks, read_stamp, stamp_of
from mlepool.wire.telemetry import JobSample

__all__ = ["JobMeter"]

PROC = Path("/proc")
MAX_JOBS = 2000  # in a sample: what a frame has room for


class _Process(NamedTuple):
    """A process, and what it and the children that it has waited for have used."""

    pid: int
    parent: int
    session: int
    ticks: int
    start_ticks: int
    pages: int


class _Known(NamedTuple):
    """What a job had used at the last look.

    Attributes:
        when: Seconds, by a clock that only goes on.
        seen: Clock ticks, bytes read and written, of the processes that there were.
        told: The same since its start; never less than before.
    """

    when: float
    seen: tuple[int, ...]
    told: tuple[int, ...]


class JobMeter:
    """Measures jobs; rates count from the look before.

    A process is a job's if it is in the session of its first process, has a parent
    that is the job's, or has the job's stamp in its environment.

    Args:
        folder: The state folder of the worker whose jobs these are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tick = 1.0 / os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._known: dict[str, _Known] = {}
        self._stamps: dict[tuple[int, int], str] = {}

    def measure(self, jobs: Mapping[str, int], now: float) -> tuple[JobSample, ...]:
        """Look at jobs.

        Args:
            jobs: The first process of each, by id.
            now: Seconds, by a clock that only goes on.
        """
        if not jobs or not PROC.is_dir():
            self._known.clear()
            self._stamps.clear()
            return ()
        trees = self._trees(jobs)
        self._known = {one: told for one, told in self._known.items() if one in trees}
        samples = [self._sample(one, trees[one], now) for one in jobs if one in trees]
        return tuple(samples[:MAX_JOBS])

    def _trees(self, jobs: Mapping[str, int]) -> dict[str, list[_Process]]:
        leaders = {pid: job_id for job_id, pid in jobs.items()}
        owners: dict[int, str] = {}
        stamps: dict[tuple[int, int], str] = {}
        trees: dict[str, list[_Process]] = defaultdict(list)
        for process in _parents_first(_all_processes()):
            job_id = (
                leaders.get(process.session)
                or owners.get(process.parent)
                or self._stamp(process, stamps)
            )
            if job_id in jobs:
                owners[process.pid] = job_id
                trees[job_id].append(process)
        self._stamps = stamps
        return trees

    def _stamp(self, process: _Process, seen: dict[tuple[int, int], str]) -> str:
        """Give the job that a process is stamped with; what was read once is kept."""
        key = process.pid, process.start_ticks
        stamp = self._stamps.get(key)
        seen[key] = stamp = self._read(process.pid) if stamp is None else stamp
        return stamp

    def _read(self, pid: int) -> str:
        found = read_stamp(pid)
        job_id = found.get(JOB_VARIABLE, b"").decode("ascii", "replace")
        return job_id if found == stamp_of(job_id, self._folder) else ""

    def _sample(self, job_id: str, tree: list[_Process], now: float) -> JobSample:
        known = self._known.get(job_id)
        moved = [(one.ticks, *_moved(one.pid)) for one in tree]
        seen = tuple(sum(column) for column in zip(*moved, strict=True))
        if known is None:
            born = min(one.start_ticks for one in tree)
            seconds = max((boot_ticks() - born) * self._tick, self._tick)
            grown, told = seen, seen
        else:
            seconds = max(now - known.when, 1e-3)
            # One that ended took along what it had used, unless its parent is ours.
            pairs = zip(seen, known.seen, strict=True)
            grown = tuple(max(0, new - old) for new, old in pairs)
            told = tuple(map(sum, zip(known.told, grown, strict=True)))
        self._known[job_id] = _Known(now, seen, told)
        return JobSample(
            job_id,
            cpu_percent=round(100.0 * grown[0] * self._tick / seconds, 2),
            cpu_time=round(told[0] * self._tick, 2),
            rss=sum(one.pages for one in tree) * self._page,
            read_bytes=told[1],
            write_bytes=told[2],
            processes=len(tree),
        )


def _all_processes() -> Iterator[_Process]:
    for name in os.listdir(PROC):
        if name.isdigit():
            process = _look_at(int(name))
            if process is not None:
                yield process


def _look_at(pid: int) -> _Process | None:
    """Read /proc/PID/stat, see proc(5); None for one that is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return _Process(
        pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        ticks=sum(map(int, fields[11:15])),
        start_ticks=int(fields[19]),
        pages=max(0, int(fields[21])),
    )


def _parents_first(processes: Iterable[_Process]) -> list[_Process]:
    children: dict[int, list[_Process]] = defaultdict(list)
    pids = set()
    for process in processes:
        children[process.parent].append(process)
        pids.add(process.pid)
    found = [
        one for parent, some in children.items() if parent not in pids for one in some
    ]
    for process in found:  # grows while it is walked
        found.extend(children.get(process.pid, ()))
    return found


def _moved(pid: int) -> tuple[int, int]:
    """Give the bytes that a process has read from disks and written: proc_pid_io(5)."""
    try:
        text = (PROC / str(pid) / "io").read_bytes()
    except OSError:
        return 0, 0
    words = dict(line.split(b": ") for line in text.splitlines())
    return int(words.get(b"read_bytes", 0)), int(words.get(b"write_bytes", 0))
