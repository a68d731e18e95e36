"""Lets go of old jobs: now and then, after many ends, and when the disk gets full."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlepool.config import Limits, Retention
from mlepool.worker.disk import DiskWatch
from mlepool.worker.known import MAX_RECENT, KnownJobs
from mlepool.worker.retention import Shelf

__all__ = ["Sweeper"]

logger = logging.getLogger("mlepool.worker")

SWEEP_EVERY = 3600.0  # seconds between two looks for jobs to let go of
SWEEP_PAUSE = 5.0  # seconds between them while the disk stays too full
SWEEP_AFTER = 5000  # jobs that have ended since the last look


class Sweeper:
    """Lets go of old jobs, and watches the disk.

    Args:
        folder: Where journals are.
        jobs: The jobs.
        limits: Says what part of the disk is to be free.
        retention: What is kept of jobs that have ended.
        tell: Told how the disk is, when its status is another one.

    Attributes:
        disk: The disk, as last looked at.
    """

    def __init__(
        self,
        folder: Path,
        jobs: KnownJobs,
        *,
        limits: Limits,
        retention: Retention,
        tell: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> None:
        self.disk = DiskWatch(folder, keep_free=limits.keep_free, tell=tell)
        self._jobs = jobs
        self._shelf = Shelf(folder, retention, keep_free=limits.keep_free)
        self._wanted = asyncio.Event()
        self._ended = 0
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Know again what ended last, and begin to sweep."""
        self._jobs.recall(await asyncio.to_thread(self._shelf.latest, MAX_RECENT))
        self._sweeping = asyncio.create_task(self._keep_sweeping())

    def close(self) -> None:
        """Sweep no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    def change(self, limits: Limits, retention: Retention) -> None:
        """Keep to other rules; look soon."""
        self.disk.keep_free = limits.keep_free
        self._shelf.change(retention, keep_free=limits.keep_free)
        self.hurry()

    def hurry(self) -> None:
        """Look soon: the disk gets full."""
        self._wanted.set()

    def count(self) -> None:
        """Count a job's end; look soon after many."""
        self._ended += 1
        if self._ended >= SWEEP_AFTER:
            self._wanted.set()

    def may_be_forgotten(self, age: float) -> bool:
        """Tell if a job that was asked for so many seconds ago may have been let go."""
        return time.time() - age <= self._shelf.horizon

    async def _keep_sweeping(self) -> None:
        loop, wanted_at = asyncio.get_running_loop(), -SWEEP_PAUSE
        while True:
            self._wanted.clear()
            self._ended = 0
            live = {job.id for job in self._jobs.current()}
            self.disk.look()  # before there is room again: output may have been lost
            try:
                self._jobs.forget(await asyncio.to_thread(self._shelf.sweep, live))
            except OSError as exc:
                logger.error("cannot let go of old jobs: %s", exc)
            self.disk.look()
            await self._rest()
            await asyncio.sleep(wanted_at + SWEEP_PAUSE - loop.time())
            wanted_at = loop.time()

    async def _rest(self) -> None:
        """Wait until it is time to sweep; a disk that is too full is looked at."""
        loop = asyncio.get_running_loop()
        due = loop.time() + SWEEP_EVERY
        while not self._wanted.is_set() and loop.time() < due:
            limit = due if self.disk.is_ok else loop.time() + SWEEP_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(limit):
                    await self._wanted.wait()
            self.disk.look()
