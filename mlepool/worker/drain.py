"""How a worker ends that was asked to: it finishes what it has begun, and no more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mlepool.errors import WorkerError

__all__ = ["Drain"]

LOOK_EVERY = 0.05  # seconds between two looks whether all is finished


class Drain:
    """Ends a worker in order.

    Args:
        is_busy: Tells if something goes on that should come to its end.
        end: Closes the worker.

    Attributes:
        ended: Set when the worker has closed.
    """

    def __init__(
        self, is_busy: Callable[[], bool], end: Callable[[], Awaitable[None]]
    ) -> None:
        self.ended = asyncio.Event()
        self._is_busy = is_busy
        self._end = end
        self._task: asyncio.Task[None] | None = None

    def begin(self, grace: float) -> None:
        """Begin nothing new, and end when all is finished; twice is fine.

        Args:
            grace: Seconds, after which it ends in any case.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._wait(grace))

    def check(self) -> None:
        """See that something new may begin.

        Raises:
            WorkerError: If the worker is about to end.
        """
        if self._task is not None:
            raise WorkerError("the worker is about to end; it starts nothing new")

    def close(self) -> None:
        """Wait no more; twice is fine."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _wait(self, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while True:
                    # The answer to who has asked for this goes out first.
                    await asyncio.sleep(LOOK_EVERY)
                    if not self._is_busy():
                        break
        try:
            await self._end()
        finally:
            self.ended.set()
