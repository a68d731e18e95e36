"""The client of `benchmarks.scale`: does everything on all hosts, and measures it.

It reads what there is from standard input, and writes what it measured to standard
output, both as JSON.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mlepool

from .contender import expect
from .processes import resident

LIMIT = 120.0  # seconds until a host that vanished is noticed; 60 s when it is silent
TICK = os.sysconf("SC_CLK_TCK")  # of /proc/PID/stat, a second
FILES = 20  # in the tree that is synced
FILE_SIZE = 4096  # bytes of each


class Hosts(NamedTuple):
    """What is to be measured.

    Attributes:
        places: Where the hosts are; those of one worker stand together.
        groups: The processes of each worker: the worker first.
        rest: Seconds at rest.
        is_silent: Whether a tenth of the hosts is to fall silent, too.
    """

    places: list[str]
    groups: list[list[int]]
    rest: float = 30.0
    is_silent: bool = False


class Measured(NamedTuple):
    """What was measured: seconds, KiB a connection, percent of a core."""

    hosts: int
    connect: float
    connect_cpu: float
    run: float
    run_cpu: float
    line: float
    sync: float
    client_kib: float
    worker_kib: float
    rest_cpu: float
    worker_rest_cpu: float
    notice: float | None
    notice_silent: float | None


class Costs(NamedTuple):
    """What one thing took, in seconds."""

    elapsed: float
    cpu: float


async def measure(hosts: Hosts) -> Measured:
    """Do everything once."""
    count = len(hosts.places)
    pids = [pid for group in hosts.groups for pid in group]
    async with mlepool.AsyncClientPool() as pool:
        for number, place in enumerate(hosts.places):
            pool.add(place, name=f"host{number}")
        await pool["host0"].connect()  # loads what all share
        await pool["host0"].run(["true"])
        before, workers_before = _memory([os.getpid()]), _memory(pids)
        connect = await _costs(pool.connect)
        run = await _costs(lambda: _run_all(pool, "true"))
        client_kib = (_memory([os.getpid()]) - before) * 1024 / count
        worker_kib = (_memory(pids) - workers_before) * 1024 / count
        line = await _costs(lambda: _run_all(pool, "echo hello"))
        await asyncio.gather(*map(_part, pool))
        sync = await _costs(lambda: _sync_all(pool))
        rest, workers_rest = await _at_rest(pids, hosts.rest)
        notice = await _vanish(pool, hosts, signal.SIGKILL, which=1)
        silent = None
        if hosts.is_silent:
            silent = await _vanish(pool, hosts, signal.SIGSTOP, which=2)
    return Measured(
        *(count, *connect, *run, line.elapsed, sync.elapsed),
        *(client_kib, worker_kib, rest, workers_rest, notice, silent),
    )


async def _run_all(pool: Any, command: str) -> None:
    done = await pool.run(command)
    expect(len(done.succeeded), len(pool))
    if command != "true":
        lines = [line for _, line in [one async for one in done]]
        expect(lines.count("hello"), len(pool))


async def _part(connection: Any) -> None:
    """Have a folder of its own: hosts that share a worker would wait for each other."""
    folder = f"{connection.name}-{os.getpid()}"
    await connection.mkdirs(folder)
    await connection.cd(folder)


async def _sync_all(pool: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        for number in range(FILES):
            (Path(name) / f"file-{number}").write_bytes(os.urandom(FILE_SIZE))
        done = await pool.sync(name, "tree")
    expect(len(done.succeeded), len(pool))


async def _costs(work: Callable[[], Awaitable[object]]) -> Costs:
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    await work()
    return Costs(time.perf_counter() - start, time.process_time() - cpu)


async def _at_rest(pids: Iterable[int], duration: float) -> tuple[float, float]:
    """Do nothing, and return what that costs, in percent of a core."""
    pids = list(pids)
    cpu, workers = time.process_time(), _processor_time(pids)
    await asyncio.sleep(duration)
    cpu, workers = time.process_time() - cpu, _processor_time(pids) - workers
    return 100 * cpu / duration, 100 * workers / duration


async def _vanish(
    pool: Any, hosts: Hosts, number: signal.Signals, *, which: int
) -> float | None:
    """Take a worker away, and return when all of its hosts are known to be lost."""
    if len(hosts.groups) <= which:
        return None
    each = len(hosts.places) // len(hosts.groups)
    names = {f"host{which * each + place}" for place in range(each)}
    left, all_noticed = set(names), asyncio.Event()

    def noticed(name: str) -> None:
        left.discard(name)
        if not left:
            all_noticed.set()

    for name in names:
        pool[name].on("reconnecting", lambda _data, name=name: noticed(name))
    start = time.perf_counter()
    os.kill(hosts.groups[which][0], number)
    async with asyncio.timeout(LIMIT):
        await all_noticed.wait()
    elapsed = time.perf_counter() - start
    if number == signal.SIGSTOP:
        os.kill(hosts.groups[which][0], signal.SIGCONT)
    for name in names:
        await pool.remove(name)
    return elapsed


def _memory(pids: Iterable[int]) -> float:
    """Return the resident memory of all in MiB."""
    gc.collect()
    return sum(map(resident, pids))


def _processor_time(pids: Iterable[int]) -> float:
    """Return the seconds that processes have worked."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        total += int(user) + int(system)
    return total / TICK


def main() -> None:
    """Measure what standard input says."""
    hosts = Hosts(*json.load(sys.stdin))
    json.dump(asyncio.run(measure(hosts)), sys.stdout)


if __name__ == "__main__":
    main()
