"""What a job is asked for by its listener: commands of its worker, by its id."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.listening.listener import AsyncListener
from mlepool.wire.telemetry import JobSample
from mlepool.wire.values import StopReport

__all__ = ["JobCalls", "Owner"]


class Owner(Protocol):
    """The connection whose calls they are."""

    name: str

    def find(self, name: str) -> BoundCommand:
        """Find a command of the worker."""

    def check_usable(self) -> None:
        """Raise ConnectionClosedError if there is no link, and none will come."""

    def job_metrics(self, job_id: str) -> JobSample | None:
        """Give what a job of the worker uses, as far as that is known."""


class JobCalls:
    """The calls that are about a job; a listener's owner has them."""

    _owner: Owner

    def call(
        self, command: BoundCommand, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Coroutine[Any, Any, AsyncListener]:
        """Call a command; see :meth:`AsyncConnection.call`."""
        raise NotImplementedError

    async def describe(self, job_id: str) -> AsyncListener:
        """Ask the worker for a job's facts: the listener's value.

        Raises:
            LookupError: If there is no such job.
        """
        keywords = {"raise_error": True}
        return await self.call(self._owner.find("job"), (job_id,), keywords)

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Stop a job."""
        keywords = {"signal": signal, "grace": grace, "raise_error": True}
        listener = await self.call(self._owner.find("stop"), (job_id,), keywords)
        assert isinstance(listener.value, StopReport)
        return listener.value

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Write to a job's stdin."""
        place = {"data": data, "offset": offset, "end": end, "writer": writer}
        keywords = {**place, "raise_error": True}
        await self.call(self._owner.find("send_input"), (job_id,), keywords)

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size."""
        keywords = {"rows": rows, "cols": cols, "raise_error": True}
        await self.call(self._owner.find("resize"), (job_id,), keywords)
