"""The hosts of one call, and who owns a listener before its call has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.wire.values import StopReport

__all__ = ["Slot", "Unbegun"]


class Slot:
    """One host of a call.

    Attributes:
        name: Its name.
        connection: The way to it.
        listener: The handle of its latest attempt.
        attempts: The listeners of all attempts that had begun and have ended.
        problem: Why it could not be reached, or the call did not fit.
        began: When the latest attempt did, by the loop's clock.
        is_open: True while an attempt runs.
        is_drained: True while its output comes whether it is read or not.
        is_forgone: True once it was stopped before it had begun.
        task: Connects it, while that takes.
    """

    def __init__(self, connection: AsyncConnection, listener: AsyncListener) -> None:
        self.name = connection.name
        self.connection = connection
        self.listener = listener
        self.attempts: list[AsyncListener] = []
        self.problem: Exception | None = None
        self.began = 0.0
        self.is_open = False
        self.is_drained = False
        self.is_forgone = False
        self.task: asyncio.Task[None] | None = None


class Unbegun:
    """The owner of a listener whose call has not begun yet.

    Args:
        name: The host's name.
        forgo: Has the call on a host of that name never begin.
    """

    def __init__(
        self, name: str, forgo: Callable[[str], Awaitable[StopReport]]
    ) -> None:
        self.name = name
        self._forgo = forgo

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Have it never begin."""
        return await self._forgo(self.name)

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Refuse input."""
        raise BrokenPipeError(f"the call on {self.name} has not begun")

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Refuse a size."""
        raise ValueError(f"the call on {self.name} has not begun")

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Nothing to do: the request will say it."""

    def look(self, listener: AsyncListener) -> None:
        """Nothing to do: there is no output."""

    def leave(self, listener: AsyncListener) -> None:
        """Begin nevertheless: a group's call is for all its hosts."""

    def job_metrics(self, job_id: str) -> None:
        """Say nothing: there is no process."""

    def release(self, job_id: str) -> bool:
        """Say that the worker can't have heard of it."""
        return False

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Refuse: there is no output.

        Raises:
            LookupError: Always.
        """
        raise LookupError(f"the call on {self.name} has not begun")
