"""Looks at the GPUs while somebody waits for some, or has to give some back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mlepool.worker.queue.gpus import GpuDriver
from mlepool.worker.queue.leases import Leases, Look, look
from mlepool.worker.threads import in_thread

__all__ = ["GpuWatch"]

LOOK_LIMIT = 10.0  # seconds for the driver to answer
PAUSE = 0.1  # seconds between two looks; each doubles it ...
MAX_PAUSE = 5.0  # ... up to this


class GpuWatch:
    """Looks, in a thread, and takes back what is free.

    Args:
        path: Where leases are written: a file in the worker's state folder.
        driver: Tells of GPUs.
        seen: Called after each look: whoever may begin leases GPUs then, since what
            was seen is old a moment later. Tells if looks are wanted still.

    Attributes:
        leases: Which job has which GPUs.
    """

    def __init__(
        self, path: Path, driver: GpuDriver, *, seen: Callable[[], bool]
    ) -> None:
        self.leases = Leases(path)
        self._folder = path.parent
        self._driver = driver
        self._seen = seen
        self._wanted = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def open(self, *, waiting: Collection[str], running: Collection[str]) -> None:
        """Begin, with the leases of a worker before us.

        Args:
            waiting: Jobs that have not begun: they have no GPUs.
            running: Jobs that run.
        """
        with contextlib.suppress(OSError):
            self.leases.drop(waiting)
        for job_id in self.leases.holders():
            if job_id not in running:
                self.leases.end(job_id)
        if self.leases.holders():
            self.look()

    def close(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()

    def look(self) -> None:
        """Look soon, and again until nobody wants it."""
        self._wanted.set()
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def ended(self, job_id: str) -> bool:
        """Note a job's end; False if it has no GPUs."""
        had = self.leases.end(job_id)
        if had:
            self.look()
        return had

    def state(self) -> dict[str, Any]:
        """Say how GPUs stand; nothing where nobody has asked for any."""
        leases = self.leases
        state: dict[str, Any] = {}
        if leases.total:
            state = {"gpus": leases.total, "gpus_free": len(leases.free())}
        if leases.kept:
            state["gpus_kept"] = dict(leases.kept)
        if leases.seen.problem:
            state["gpus_problem"] = leases.seen.problem
        return state

    async def _watch(self) -> None:
        pause, wants = PAUSE, True
        while wants or self.leases.ended:
            if self._wanted.is_set():
                self._wanted.clear()
                pause = PAUSE
            wants = await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                    wants = True
            pause = min(2 * pause, MAX_PAUSE)
        self._watching = None

    async def _look(self) -> bool:
        """Look once; a driver that hangs is waited for, and not asked again."""
        see = functools.partial(look, self._driver, self.leases.ended, self._folder)
        looking = asyncio.ensure_future(in_thread(see, name="look at GPUs"))
        try:
            while True:
                done, _ = await asyncio.wait((looking,), timeout=LOOK_LIMIT)
                problem = f"the GPUs' driver does not answer within {LOOK_LIMIT:g} s"
                self.leases.note(looking.result() if done else Look(problem=problem))
                wants = self._seen()
                if done:
                    return wants
        finally:
            looking.cancel()
