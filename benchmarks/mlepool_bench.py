"""mlepool itself: over the unix socket of a worker, or over TLS on the loopback."""

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .contender import (
    FLOODED,
    WARM_UP,
    WrongOutputError,
    delay,
    expect,
    rate,
    settled,
    timed,
    timed_async,
)
from .crowd import ManyHosts
from .cuts import Trial, fault_proxy
from .processes import (
    MIB,
    end,
    free_port,
    marked,
    resident,
    size_of_tree,
    wait_for_port,
    wait_for_size,
    wait_for_socket,
)
from .work import Work

CONNECT_LIMIT = 10.0  # seconds
TARGET = "target"  # a link in a worker's folder, to where its next copy goes
SAMPLE_INTERVAL = 0.05  # seconds between two looks at memory and journal
QUIET = 2.0  # seconds without growth of the journal, after which it has ended
SLOWEST = 20 * MIB  # bytes a second; a journal slower than that is not waited for


class Mlepool(ManyHosts):
    """One worker of its own, with an account folder of its own, and one client.

    For copies to several places there are more workers.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._state = folder / "state"
        self._port = free_port()
        self._worker: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._conns: list[Any] = []  # to all of them
        self._pool: Any = None
        self._conn: Any = None

    def place(self) -> str:
        """Return where the worker is, by the way in that is measured."""
        return self._place(self._state, self._port)

    def _place(self, _state: Path, port: int) -> str:
        return f"localhost:{port}"

    def proxied(self) -> Any:
        """Return a proxy that can cut that way in."""
        return fault_proxy(self._port)

    def open(self) -> None:
        """Start a worker, and connect the blocking client."""
        # Read by the worker and by our own import, which must come after it.
        os.environ["MLEPOOL_HOME"] = str(self.folder / "home")
        mlepool = importlib.import_module("mlepool")
        self._worker = start_worker(self._state, self._port)
        self._pool = mlepool.ClientPool()
        self._conn = self._connect(self.place())
        self._conns = [self._conn]

    def _state_of(self, number: int) -> Path:
        """Return a worker's state folder; number 0 is the one that is always there."""
        return self.folder / f"state-{number}" if number else self._state

    def _connect(self, place: str) -> Any:
        conn = self._pool.add(place)
        conn.connect(timeout=CONNECT_LIMIT)
        return conn

    def close(self) -> None:
        """Close the client, then end the worker."""
        self.leave_crowd()
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._worker is not None:
            end(self._worker)
            self._worker = None
        while self._others:
            end(self._others.pop())

    def version(self) -> str:
        """Return mlepool's version."""
        return f"mlepool {importlib.import_module('mlepool').__version__}"

    def run(self, work: Work) -> list[float]:
        """Run `true` from the blocking client: seconds each."""
        return timed(lambda: ended_well(self._conn.run(["true"])), work.spawns)

    def at_once(self, work: Work) -> list[float]:
        """Run `true` from many tasks of the async client: commands a second."""
        return asyncio.run(self._at_once(work))

    def ping_async(self, work: Work) -> list[float]:
        """Await `get_time`: seconds each."""
        return asyncio.run(self._ping(work))

    def ping_blocking(self, work: Work) -> list[float]:
        """Block for `get_time`: seconds each."""
        return timed(self._conn.get_time, work.pings)

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Go through the records of the output: bytes a second."""

        def count() -> int:
            live = self._conn.run(work.cat(path), complete=False, encoding=None)
            return sum(len(data) for _, _, data in live.records())

        return rate(count, work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Iterate the listener: lines a second."""

        def count() -> int:
            return sum(1 for _ in self._conn.run(work.seq(), complete=False))

        return rate(count, work.lines)

    def latency(self, work: Work) -> list[float]:
        """Iterate the listener: seconds."""
        live = self._conn.run(work.stamper(), complete=False)
        return settled([delay(line) for line in live], work)

    def reconnect(self, work: Work) -> list[float]:
        """Iterate the listener of a connection through a proxy."""
        with self.proxied() as proxy:
            trial = Trial(self.folder, work, proxy.reset)
            conn = self._pool.add(proxy.address.replace("127.0.0.1", "localhost"))
            conn.connect(timeout=CONNECT_LIMIT)
            for line in conn.run(trial.argv, complete=False):
                trial.take(line)
            conn.close()
        return trial.outcome("the iteration ends")

    def memory(self, work: Work) -> list[float]:
        """Read nothing: MiB of three parts before and at most, and the journal's."""
        self._conn.run(["true"])
        parts = self._parts()
        before = sizes(parts)
        journal_before = size_of_tree(self._state)
        argv = ["head", "-c", str(work.flood), "/dev/zero"]
        live = self._conn.run(argv, complete=False)
        most = self._most_until_quiet(parts, work)
        journal = size_of_tree(self._state) - journal_before
        live.stop()
        return [*before, *most, expect_some(journal) / MIB]

    def beside_flood(self, work: Work) -> list[float]:
        """Run `true` alone, then beside output that nobody reads: seconds each."""
        self.run(work)  # a worker that is new takes longer now and then
        alone = self.run(work)
        live = self._conn.run(["cat", "/dev/zero"], complete=False)
        wait_for_size(self._state, FLOODED)
        beside = self.run(work)
        live.stop()
        return [*alone, *beside]

    def prepare(self, targets: Sequence[Path], *, is_update: bool) -> None:
        """Have as many workers as targets, and warm: each has synced one file.

        A pool syncs to one path for all; in each worker's folder that is a link.
        """
        warm_up = self.folder / "warm-up"
        warm_up.mkdir(exist_ok=True)
        (warm_up / "file").write_bytes(b"")
        for number in range(len(self._conns), len(targets)):
            state, port = self._state_of(number), free_port()
            self._others.append(start_worker(state, port))
            self._conns.append(self._connect(self._place(state, port)))
        for number, conn in enumerate(self._conns[: len(targets)]):
            there = self.folder / f"warm-{number}"
            conn.sync(warm_up, there, raise_error=True)
        for number, target in enumerate(targets):
            link = _folder_of(self._state_of(number)) / TARGET
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def copy(self, source: Path, targets: Sequence[Path]) -> None:
        """Sync to each of them."""
        # What others copy whole is copied whole here.
        options = {"ignore_files": (), "raise_error": True}
        if len(targets) == 1:
            self._conn.sync(source, targets[0], **options)
        else:
            expect(len(self._pool.sync(source, TARGET, **options)), len(targets))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        pool = importlib.import_module("mlepool").AsyncClientPool()
        try:
            conn = pool.add(self.place())
            async with asyncio.timeout(CONNECT_LIMIT):
                await conn.connect()
            yield conn
        finally:
            await pool.close()

    async def _at_once(self, work: Work) -> list[float]:
        left = iter(range(work.commands))
        async with self._connected() as conn:

            async def lane() -> None:
                for _ in left:
                    ended_well(await conn.run(["true"]))

            for _ in range(WARM_UP):
                await conn.run(["true"])
            start = time.perf_counter()
            await asyncio.gather(*(lane() for _ in range(work.lanes)))
            return [work.commands / (time.perf_counter() - start)]

    async def _ping(self, work: Work) -> list[float]:
        async with self._connected() as conn:
            return await timed_async(conn.get_time, work.pings)

    def _most_until_quiet(self, parts: list[int], work: Work) -> list[float]:
        most = sizes(parts)
        size = size_of_tree(self._state)
        last_growth = time.monotonic()
        deadline = last_growth + 10 + work.flood / SLOWEST
        while last_growth + QUIET > time.monotonic() < deadline:
            time.sleep(SAMPLE_INTERVAL)
            most = list(map(max, most, sizes(parts)))
            grown = size_of_tree(self._state)
            if grown != size:
                size, last_growth = grown, time.monotonic()
        return most

    def _parts(self) -> list[int]:
        """Return the pids of this client, the worker, and its supervisor.

        They are looked up before the flood: a command that is just being started may
        pass for a second supervisor.
        """
        assert self._worker is not None
        worker = self._worker.pid
        others = [pid for pid in marked(self.folder) if pid != worker]
        expect(len(others), 1)
        return [os.getpid(), worker, *others]


class MlepoolUnix(Mlepool):
    """The same, over the worker's unix socket, without TLS."""

    def _place(self, state: Path, _port: int) -> str:
        return f"unix:{state}"

    def proxied(self) -> Any:
        """Return a proxy in front of the socket in there."""
        return fault_proxy(self._state / "worker.sock", listen=self.folder / "proxy")


def start_worker(state: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a worker with a new state folder, and wait until it listens."""
    state.mkdir()
    folder = _folder_of(state)
    folder.mkdir()
    command = [sys.executable, "-m", "mlepool", "worker"]
    command += ["--listen", f"127.0.0.1:{port}", "--state-dir", str(state)]
    worker = subprocess.Popen(command, cwd=folder)
    wait_for_port(port, worker)
    wait_for_socket(state / "worker.sock", worker)  # it is there after the port
    return worker


def _folder_of(state: Path) -> Path:
    """Return where a worker runs: relative paths start there."""
    return state.with_name(f"{state.name}-folder")


def sizes(pids: Iterable[int]) -> list[float]:
    """Return the resident memory of each process, in MiB."""
    return [resident(pid) for pid in pids]


def expect_some(count: int) -> int:
    """Return `count`.

    Raises:
        WrongOutputError: If it is not above zero.
    """
    if count <= 0:
        raise WrongOutputError("the journal did not grow")
    return count


def ended_well(listener: Any) -> None:
    """Check that a finished command succeeded, so that its time means something."""
    expect(listener.exit_code, 0)
