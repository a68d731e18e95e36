"""One input for several jobs: each gets all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["Branch", "Tee"]


class Branch:
    """What one job reads: an async iterator. :meth:`close` it, or others wait."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        self.is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._tee.begin()
        item = await self._queue.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        data: bytes = item
        return data

    async def put(self, item: Any) -> None:
        """Hand something over, once what came before was taken."""
        if not self.is_closed:
            await self._queue.put(item)

    def close(self) -> None:
        """Read no more. Twice is fine."""
        self.is_closed = True
        while not self._queue.empty():
            self._queue.get_nowait()


class Tee:
    """Reads a source for several; the slowest of them sets the pace.

    Args:
        source: What is read, from when the first of them reads.
    """

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._branches: list[Branch] = []
        self._task: asyncio.Task[None] | None = None

    def branch(self) -> Branch:
        """Make one more reader; all of them are made before the first one reads."""
        self._branches.append(Branch(self))
        return self._branches[-1]

    def begin(self) -> None:
        """Begin to read. Twice is fine."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        end: Exception | None = None
        try:
            async for data in self._source:
                await self._give(data)
                if all(one.is_closed for one in self._branches):
                    return
        except OSError as exc:
            end = exc
        await self._give(end)

    async def _give(self, item: Any) -> None:
        for branch in self._branches:
            await branch.put(item)
