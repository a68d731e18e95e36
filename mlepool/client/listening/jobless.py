"""Who owns a listener while no worker has a job of its: what it is told then."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from mlepool.client.listening.listener import AsyncListener
from mlepool.wire.messages import Outcome
from mlepool.wire.values import StopReport

__all__ = ["Jobless", "Unbegun", "end_unbegun", "fail_unbegun"]


class Jobless:
    """The owner of a listener of which no worker knows."""

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Nothing to do: nobody sends; if it begins, the request will say it."""

    def look(self, listener: AsyncListener) -> None:
        """Nothing to do: there is no output, nor a prompt."""

    def leave(self, listener: AsyncListener) -> None:
        """Go on, or begin, without a listener."""

    def job_metrics(self, job_id: str) -> None:
        """Say nothing: there is no process."""

    def release(self, job_id: str) -> bool:
        """Say that no worker can have heard of it."""
        return False


class Unbegun(Jobless):
    """The owner of a listener whose call has not begun yet.

    Args:
        name: Of the host, or what stands for it.
        call: What has not begun, for people.
        forgo: Has it never begin.

    Attributes:
        name: As given.
    """

    def __init__(
        self, name: str, call: str, forgo: Callable[[], Awaitable[StopReport]]
    ) -> None:
        self.name = name
        self._refusal = f"{call} has not begun"
        self._forgo = forgo

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Have it never begin."""
        return await self._forgo()

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Refuse input."""
        raise BrokenPipeError(self._refusal)

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Refuse a size."""
        raise ValueError(self._refusal)

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Refuse: there is no output.

        Raises:
            LookupError: Always.
        """
        raise LookupError(self._refusal)


def end_unbegun(listener: AsyncListener, status: str, *, reason: str) -> None:
    """Have a listener end whose call has not begun."""
    now, intake = time.time(), listener.intake
    intake.ended(
        Outcome(status, end=intake.received, started=now, ended=now, reason=reason)
    )
    listener.ended()


def fail_unbegun(listener: AsyncListener, problem: Exception) -> None:
    """Have a listener tell what kept its call from being begun."""
    listener.failure = problem
    end_unbegun(listener, "FAILED", reason=str(problem))
