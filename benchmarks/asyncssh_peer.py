"""asyncssh, as a client of an OpenSSH server configured like the one for `openssh`."""

import asyncio
import importlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .contender import (
    CHUNK,
    Contender,
    NotOfferedError,
    delay,
    expect,
    rate,
    seconds,
    settled,
    timed_async,
    times,
)
from .cuts import Trial, fault_proxy
from .sshd import Sshd
from .work import Work


class AsyncSsh(Contender):
    """One asyncssh connection; its loop runs while something is measured."""

    shares: ClassVar[Mapping[str, float]] = {
        "at_once": 0.5,
        "read_bytes": 0.5,
        "read_lines": 0.1,
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = Sshd(folder)
        self._runner = asyncio.Runner()
        self._conn: Any = None
        self._crowd: list[Any] = []

    def open(self) -> None:
        """Start the server and connect."""
        self._server.start()
        self._conn = self._runner.run(self._dial(self._server.port))

    def close(self) -> None:
        """Disconnect, then end the server."""
        while self._crowd:
            self._crowd.pop().abort()
        if self._conn is not None:
            self._runner.run(self._disconnect())
            self._conn = None
        self._runner.close()
        self._server.stop()

    def version(self) -> str:
        """Return asyncssh's version."""
        return f"asyncssh {importlib.import_module('asyncssh').__version__}"

    def run(self, work: Work) -> list[float]:
        """Run `true`: seconds each."""
        return self._runner.run(timed_async(self._run_true, work.spawns))

    def at_once(self, work: Work) -> list[float]:
        """Run `true` from many tasks: commands a second."""
        return rate(lambda: self._runner.run(self._run_all(work)), work.commands)

    def hosts_open(self, work: Work) -> list[float]:
        """Run `true` on many connections, gathered: seconds."""
        if not self._crowd:
            self._crowd = self._runner.run(self._dial_many(work.hosts))
        return times(lambda: self._runner.run(_run_on(self._crowd)), work.waves)

    def hosts_connect(self, work: Work) -> list[float]:
        """Connect and run `true`, gathered: seconds."""
        return [seconds(lambda: self._runner.run(self._connect_and_run(work.hosts)))]

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Read the output stream: bytes a second."""
        job = self._count_bytes(work.cat(path))
        return rate(lambda: self._runner.run(job), work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Iterate the output stream as text: lines a second."""
        job = self._count_lines(work.seq())
        return rate(lambda: self._runner.run(job), work.lines)

    def latency(self, work: Work) -> list[float]:
        """Iterate the output stream as text: seconds."""
        return settled(self._runner.run(self._delays(work.stamper())), work)

    def reconnect(self, work: Work) -> list[float]:
        """Iterate the output stream of a connection of its own."""
        return self._runner.run(self._cut_off(work))

    def prepare(self, targets: Sequence[Path], *, is_update: bool) -> None:
        """Refuse what sftp can't do, and what would take it minutes."""
        if is_update:
            raise NotOfferedError("no sync")
        if len(targets) > 1:
            raise NotOfferedError("too slow\nto be tried")

    def copy(self, source: Path, targets: Sequence[Path]) -> None:
        """Put by sftp."""
        self._runner.run(self._put(source, targets[0]))

    async def _dial(self, port: int) -> Any:
        return await importlib.import_module("asyncssh").connect(
            "127.0.0.1",
            port,
            username=self._server.user,
            client_keys=[str(self._server.user_key)],
            known_hosts=str(self._server.known_hosts),
            config=None,
            agent_path=None,
        )

    async def _run_true(self) -> None:
        done = await self._conn.run("true")
        expect(done.exit_status, 0)

    async def _dial_many(self, count: int) -> list[Any]:
        dials = (self._dial(self._server.port) for _ in range(count))
        return await asyncio.gather(*dials)

    async def _connect_and_run(self, count: int) -> None:
        async def connect_and_run() -> None:
            async with await self._dial(self._server.port) as conn:
                await _run_on([conn])

        await asyncio.gather(*(connect_and_run() for _ in range(count)))

    async def _run_all(self, work: Work) -> int:
        left = iter(range(work.commands))

        async def lane() -> int:
            done = 0
            for _ in left:
                await self._run_true()
                done += 1
            return done

        return sum(await asyncio.gather(*(lane() for _ in range(work.lanes))))

    async def _count_bytes(self, argv: list[str]) -> int:
        count = 0
        command = shlex.join(argv)
        async with self._conn.create_process(command, encoding=None) as process:
            while data := await process.stdout.read(CHUNK):
                count += len(data)
        return count

    async def _count_lines(self, argv: list[str]) -> int:
        count = 0
        async with self._conn.create_process(shlex.join(argv)) as process:
            async for line in process.stdout:
                count += line != ""  # a last empty one comes with the end
        return count

    async def _delays(self, argv: list[str]) -> list[float]:
        async with self._conn.create_process(shlex.join(argv)) as process:
            return [delay(line) async for line in process.stdout if line]

    async def _put(self, source: Path, target: Path) -> None:
        async with self._conn.start_sftp_client() as sftp:
            await sftp.put(str(source), str(target), recurse=True, preserve=True)

    async def _disconnect(self) -> None:
        self._conn.close()
        await self._conn.wait_closed()

    async def _cut_off(self, work: Work) -> list[float]:
        with fault_proxy(self._server.port) as proxy:
            trial = Trial(self.folder, work, proxy.reset)
            command = shlex.join(trial.argv)
            conn = await self._dial(proxy.port)
            async with conn, conn.create_process(command) as process:
                how = await _read(process.stdout, trial)
            return trial.outcome(f"{how}, exit status {process.exit_status}")


async def _run_on(connections: Sequence[Any]) -> None:
    """Run `true` on all of them at once."""
    for done in await asyncio.gather(*(conn.run("true") for conn in connections)):
        expect(done.exit_status, 0)


async def _read(lines: Any, trial: Trial) -> str:
    """Iterate to the end, and return how it came."""
    try:
        async for line in lines:
            if line:
                trial.take(line)
    except Exception as exc:  # whatever it is: it is shown in the table
        return f"the iteration raises {type(exc).__name__}: {exc}"
    return "the iteration ends as if it were complete"
