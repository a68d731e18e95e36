"""Feeds one process's stdin, each byte once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from mlepool.client.listening.sources import CHUNK
from mlepool.errors import ClientError, ConnectionClosedError

__all__ = ["Feeder", "Send"]


class Send(Protocol):
    """Sends bytes to the process; returns when it has taken them."""

    async def __call__(
        self, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Send them; ``offset`` is their place in all that this writer sends."""


class Feeder:
    """One of those who write to a process's stdin.

    What is sent goes on its way as a whole, also if the caller waits no more: nobody
    could tell how much of it was taken.

    Args:
        transmit: How bytes get to the process.

    Attributes:
        transmit: As given.
    """

    def __init__(self, transmit: Send) -> None:
        self.transmit = transmit
        self._writer = ""  # named with its first word: most never write
        self._sent = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pouring: asyncio.Task[None] | None = None
        self._problem: Exception | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes, after those of earlier calls."""
        await self._to_its_end(self._send(data))

    async def close(self) -> None:
        """Close the process's stdin, after what was sent."""
        await self._to_its_end(self._send(b"", end=True))

    def pour(self, source: AsyncIterator[bytes]) -> None:
        """Begin to send all that a source gives, and to close stdin after it."""
        self._pouring = asyncio.get_running_loop().create_task(self._pour(source))

    def stop(self) -> None:
        """Take no more from the source. Twice is fine."""
        if self._pouring is not None:
            self._pouring.cancel()

    def take_problem(self) -> Exception | None:
        """Give what the source has raised, once."""
        problem, self._problem = self._problem, None
        return problem

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        await asyncio.shield(task)

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, whether the caller has waited for it or not

    async def _send(self, data: bytes, *, end: bool = False) -> None:
        async with self._turn:
            for at in range(0, len(data), CHUNK):
                await self._send_chunk(data[at : at + CHUNK])
            if end:
                await self._send_chunk(b"", end=True)

    async def _send_chunk(self, data: bytes, *, end: bool = False) -> None:
        self._writer = self._writer or secrets.token_hex(8)
        offset = self._sent
        self._sent += len(data)
        try:
            await self.transmit(data, offset=offset, end=end, writer=self._writer)
        except ConnectionClosedError:
            self._sent = offset  # it was not sent at all
            raise

    async def _pour(self, source: AsyncIterator[bytes]) -> None:
        try:
            async with contextlib.aclosing(source):  # type: ignore[type-var]
                async for data in source:
                    if not await self._was_taken(data):
                        return
        except Exception as exc:
            # The source's own: whatever it is, the listener tells of it.
            self._problem = exc
        except (SystemExit, KeyboardInterrupt) as exc:
            # Told as it is it would end the loop, and so whatever waits for it.
            self._problem = RuntimeError(f"input has raised {exc!r}")
        await self._was_taken(b"", end=True)

    async def _was_taken(self, data: bytes, *, end: bool = False) -> bool:
        """Send; False if nobody reads, or nobody can be told, any more."""
        try:
            await self._send(data, end=end)
        except (BrokenPipeError, ClientError, LookupError):
            return False  # as subprocess.run(); what else is wrong the listener says
        return True
