"""Workers in this process, for tests that look into them: each in a loop of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import mlepool
from mlepool.client.connection import AsyncConnection
from mlepool.config import ListenAddress, WorkerConfig
from mlepool.worker.daemon import Worker


@contextlib.asynccontextmanager
async def served(
    folder: Path, limit: int | None = 1, **options: Any
) -> AsyncIterator[tuple[Worker, AsyncConnection]]:
    """Run a worker in this loop, and connect to it."""
    here = ListenAddress("127.0.0.1", 0)
    config = WorkerConfig(folder / "state", here, "here", folder, max_concurrent=limit)
    async with Worker(config, **options) as worker, connected(folder) as conn:
        yield worker, conn


@contextlib.asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[AsyncConnection]:
    async with (
        mlepool.AsyncClientPool() as pool,
        pool.add(f"unix:{folder}/state") as conn,
    ):
        yield conn


class House:
    """A worker for several tests, one after the other.

    Attributes:
        folder: Where its state folder is.
        worker: The worker.
    """

    def __init__(
        self, runner: asyncio.Runner, folder: Path, worker: Worker, *, limit: int | None
    ) -> None:
        self.folder, self.worker = folder, worker
        self._runner, self._limit = runner, limit

    def run(self, test: Callable[[AsyncConnection], Coroutine[Any, Any, None]]) -> None:
        """Run a test with a connection; what it leaves running is stopped."""

        async def main() -> None:
            self.worker.jobs.set_max_concurrent(self._limit)
            async with connected(self.folder) as conn:
                await test(conn)

        self._runner.run(main())


@contextlib.contextmanager
def house(folder: Path, limit: int | None = 1, **options: Any) -> Iterator[House]:
    """Run a worker while this lasts."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        serve = stack.enter_async_context(served(folder, limit, **options))
        worker, _ = runner.run(serve)
        yield House(runner, folder, worker, limit=limit)
        runner.run(stack.aclose())


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def orders(folder: Path) -> list[Path]:
    """Give the files of the jobs that wait."""
    return sorted((folder / "state/queue").glob("*.order"))
