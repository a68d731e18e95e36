"""What ends with a connection: jobs of the worker, and what runs here for some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from mlepool.client.listening.listener import AsyncListener

__all__ = ["Echo", "Owned", "Work"]

logger = logging.getLogger("mlepool.client")

CLOSE_LIMIT = 15.0  # seconds that close() may take in all

Echo = Callable[[Any], None]


class Work(Protocol):
    """What runs here, over this connection: a :class:`~mlepool.client.local.LocalJob`.

    Attributes:
        listener: Its handle.
    """

    listener: AsyncListener

    @property
    def is_over(self) -> bool:
        """True once it has ended."""

    async def finish(self, echo: Echo) -> AsyncListener:
        """Wait for its end, printing its messages where that was asked for."""

    async def stop(self) -> None:
        """End it, and wait until it has."""


class Owned:
    """What a connection's ``close()`` stops.

    Args:
        name: The connection's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: dict[str, None] = {}
        self._works: set[Work] = set()

    def add(self, job_id: str) -> None:
        """Own a job."""
        self._jobs[job_id] = None

    def release(self, *job_ids: str) -> None:
        """Own jobs no more; twice is fine."""
        for one in job_ids:
            self._jobs.pop(one, None)

    def add_work(self, work: Work) -> None:
        """Own what runs here."""
        self._works = {one for one in self._works if not one.is_over} | {work}

    def job_ids(self) -> list[str]:
        """Give the ids of the jobs."""
        return list(self._jobs)

    async def stop_works(self) -> None:
        """End what runs here."""
        works = [asyncio.ensure_future(one.stop()) for one in self._works]
        if works:
            await asyncio.wait(works, timeout=CLOSE_LIMIT)

    async def stop_jobs(
        self, unsent: Iterable[str], stop: Callable[[str], Coroutine[Any, Any, Any]]
    ) -> None:
        """Stop the jobs, or say which could not be.

        Args:
            unsent: Those that have not begun, and won't.
            stop: Stops one.
        """
        stops = {asyncio.ensure_future(stop(one)): one for one in self._let_go(unsent)}
        if stops:
            await self._wait_for_stops(stops)

    def give_up(self, unsent: Iterable[str]) -> None:
        """Say which jobs can't be stopped, since there is no link."""
        job_ids = self._let_go(unsent)
        if job_ids:
            text = "%s: there is no link; not stopped: %s"
            logger.warning(text, self._name, ", ".join(job_ids))

    def _let_go(self, unsent: Iterable[str]) -> list[str]:
        job_ids = [one for one in self._jobs if one not in unsent]
        self._jobs.clear()
        return job_ids

    async def _wait_for_stops(self, stops: Mapping[asyncio.Task[Any], str]) -> None:
        done, late = await asyncio.wait(stops, timeout=CLOSE_LIMIT)
        for task in late:
            task.cancel()
        failed = [task for task in done if task.exception() is not None]
        if failed or late:
            names = ", ".join(stops[task] for task in (*failed, *late))
            logger.warning("%s: could not stop %s", self._name, names)
