"""What commands that take time have answered: a repeated request is not run again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from mlepool.wire.messages import Outcome
from mlepool.worker.failures import failed

__all__ = ["Answers", "failed"]

MAX_KEPT = 256  # answers that were given already; their links may have lost them


class Answers:
    """The commands under way and the latest answers, by command and request id."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], asyncio.Task[Outcome]] = {}
        self._kept: dict[tuple[str, str], tuple[asyncio.Task[Outcome], float]] = {}
        self._forgotten = time.monotonic()  # what was asked before, perhaps

    @property
    def is_busy(self) -> bool:
        """True while a command is under way."""
        return bool(self._running)

    def may_be_forgotten(self, age: float) -> bool:
        """Tell if the answer to a request of so many seconds ago may be gone.

        A former worker has given it, or there were too many since.
        """
        return time.monotonic() - age <= self._forgotten

    def find(self, command: str, request_id: str) -> asyncio.Task[Outcome] | None:
        """Find what a request before this one has begun."""
        key = (command, request_id)
        kept = self._kept.get(key)
        return self._running.get(key) if kept is None else kept[0]

    def begin(
        self,
        command: str,
        request_id: str,
        work: Coroutine[Any, Any, Outcome],
        *,
        is_kept: bool = True,
    ) -> asyncio.Task[Outcome]:
        """Run something to its end, whoever is connected.

        Args:
            command: The command's name.
            request_id: The request's id.
            work: Gives the outcome.
            is_kept: Keep the answer. Not one that may be large, of what may be done
                again.
        """
        task = asyncio.get_running_loop().create_task(work)
        key, began = (command, request_id), time.monotonic()
        self._running[key] = task
        task.add_done_callback(lambda _: self._ended(key, began, is_kept=is_kept))
        return task

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: tuple[str, str], began: float, *, is_kept: bool) -> None:
        task = self._running.pop(key)
        if is_kept:
            self._kept[key] = task, began
        if len(self._kept) > MAX_KEPT:
            _, began = self._kept.pop(next(iter(self._kept)))
            self._forgotten = max(self._forgotten, began)
