"""The limits: what this machine does with nothing in between.

Each is what the contenders' ratios are taken to, and measured in the same rounds.
"""

import asyncio
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .contender import (
    CHUNK,
    FLOODED,
    Contender,
    delay,
    expect,
    rate,
    settled,
    timed,
    timed_async,
    times,
)
from .files import run_all
from .processes import end, free_port, wait_for_port, wait_for_size
from .work import Work

PAYLOAD = b"0123456789abcdef"  # 16 bytes, about what an empty command carries

# permessage-deflate is off: with it the limit would be slower, and easier to reach.
ECHO_SERVER = """\
import asyncio, sys
from websockets.asyncio.server import serve
async def echo(link):
    async for frame in link:
        await link.send(frame)
async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.Event().wait()
asyncio.run(main())
"""


def spawn_true() -> None:
    """Start /bin/true and reap it: the least that running a command can cost."""
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    _, status = os.waitpid(pid, 0)
    expect(status, 0)


class Local(Contender):
    """Local processes and pipes, a bare WebSocket echo, and `cp -a`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._echo: subprocess.Popen[bytes] | None = None
        self._port = 0

    def close(self) -> None:
        """End the echo server."""
        if self._echo is not None:
            end(self._echo)
            self._echo = None

    def version(self) -> str:
        """Return the version of the echo's library; the rest is the kernel."""
        # Without it only the round trips have no limit; the other rows do.
        if importlib.util.find_spec("websockets") is None:
            return "no websockets"
        return f"websockets {importlib.import_module('websockets').__version__}"

    def run(self, work: Work) -> list[float]:
        """Spawn and reap: seconds each."""
        return timed(spawn_true, work.spawns)

    def beside_flood(self, work: Work) -> list[float]:
        """Spawn and reap alone, then beside `cat /dev/zero | cat`: seconds each."""
        alone = self.run(work)
        path = self.folder / "flood"
        with path.open("wb") as file, ExitStack() as stack:
            zeros = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
            stack.callback(end, zeros)
            stack.callback(
                end, subprocess.Popen("cat", stdin=zeros.stdout, stdout=file)
            )
            wait_for_size(path, FLOODED)
            beside = self.run(work)
        path.unlink()
        return [*alone, *beside]

    def at_once(self, work: Work) -> list[float]:
        """Spawn and reap one after another: commands a second."""

        def spawn_all() -> int:
            for _ in range(work.commands):
                spawn_true()
            return work.commands

        return rate(spawn_all, work.commands)

    def hosts_open(self, work: Work) -> list[float]:
        """Spawn and reap one after another: seconds for all."""

        def spawn_all() -> None:
            for _ in range(work.hosts):
                spawn_true()

        return times(spawn_all, work.waves)

    def hosts_connect(self, work: Work) -> list[float]:
        """Spawn and reap: here is nothing to connect."""
        return self.hosts_open(work)

    def sweep(self, work: Work) -> list[float]:
        """Spawn and reap one after another: commands a second."""
        return self.at_once(work)

    def whole_process(self, work: Work) -> list[float]:
        """Spawn and reap: seconds each."""
        return timed(spawn_true, work.tools)

    def ping_async(self, work: Work) -> list[float]:
        """Echo 16 bytes over a bare WebSocket without TLS: seconds each."""
        importlib.import_module("websockets")  # ImportError here, not in the server
        if self._echo is None:
            self._port = free_port()
            code = [sys.executable, "-c", ECHO_SERVER, str(self._port)]
            self._echo = subprocess.Popen(code)
            wait_for_port(self._port, self._echo)
        return asyncio.run(self._ping(work.pings))

    def ping_blocking(self, work: Work) -> list[float]:
        """Echo over a bare WebSocket: the asyncio one is the limit here, too."""
        return self.ping_async(work)

    async def _ping(self, count: int) -> list[float]:
        client: Any = importlib.import_module("websockets.asyncio.client")
        url = f"ws://127.0.0.1:{self._port}"
        async with client.connect(url, compression=None) as link:

            async def echo() -> None:
                await link.send(PAYLOAD)
                await link.recv()

            return await timed_async(echo, count)

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Read a pipe: bytes a second."""
        return rate(lambda: count_bytes(work.cat(path)), work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Iterate a pipe as text: lines a second."""
        return rate(lambda: count_lines(work.seq()), work.lines)

    def latency(self, work: Work) -> list[float]:
        """Block in the reading of a pipe: seconds."""
        with subprocess.Popen(work.stamper(), stdout=subprocess.PIPE) as process:
            delays = [delay(data) for data in reads(process)]
        return settled(delays, work)

    def prepare(self, targets: Sequence[Path], *, is_update: bool) -> None:
        """Make the folders."""
        for target in targets:
            target.mkdir()

    def copy(self, source: Path, targets: Sequence[Path]) -> None:
        """Run `cp -a`, which copies what is newer than its copy."""
        command = ["cp", "-a", "-u", f"{source}/."]
        run_all([[*command, str(target)] for target in targets])


def reads(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what each read of a process's output gives: 1 byte to 64 KiB."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    while data := os.read(descriptor, CHUNK):
        yield data


def count_bytes(argv: list[str]) -> int:
    """Read all that a local command writes, and count the bytes."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        return sum(len(data) for data in reads(process))


def count_lines(argv: list[str]) -> int:
    """Iterate over the lines that a local command writes, and count them."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return sum(1 for _ in process.stdout)
