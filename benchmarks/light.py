"""A light test worker: one real worker that many doors lead to.

`python -m benchmarks.light FOLDER COUNT [--tls]`. Each door is a host of its own for
clients: a socket `FOLDER/door-N/worker.sock`, or a port. It prints a line that names
its processes and its doors, and serves until its standard input ends.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from mlepool.config import SOCKET_FILE
from mlepool.transport.unix import listen_unix
from mlepool.transport.websocket import listen_websocket
from mlepool.worker import Worker

from .processes import marked


class ManyDoors(Worker):
    """A worker that listens in many places, each with the same behind it."""

    doors = 0
    is_tls = False
    places: list[str]

    async def _listen(self, folder: Path) -> None:
        await super()._listen(folder)
        self.places = [await self._open_door(number) for number in range(self.doors)]

    async def _open_door(self, number: int) -> str:
        if self.is_tls:
            tcp = await listen_websocket(
                *("127.0.0.1", 0, self._serve),
                tls=self.identity.tls(),
                channel=self.identity.channel,
                answer=self.page.answer,
            )
            self._acceptors.append(tcp)
            return f"127.0.0.1:{tcp.port}"
        door = self.config.state_dir / f"door-{number}"
        door.mkdir()
        self._acceptors.append(await listen_unix(door / SOCKET_FILE, self._serve))
        return f"unix:{door}"


async def _serve(folder: Path, worker: ManyDoors) -> None:
    loop = asyncio.get_running_loop()
    async with worker:
        pids = [os.getpid(), *marked(folder)]
        print(json.dumps({"pids": pids, "places": worker.places}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    root = options.folder / "root"
    root.mkdir(parents=True)
    worker = ManyDoors(
        state_dir=options.folder / "state", root=root, listen="127.0.0.1:0"
    )
    worker.doors, worker.is_tls = options.count, options.tls
    asyncio.run(_serve(options.folder, worker))


if __name__ == "__main__":
    main()
