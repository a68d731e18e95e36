"""Tells how the line stands: each job its place, everybody its length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from mlepool.wire.values import JobInfo
from mlepool.worker.known import KnownJobs
from mlepool.worker.queue.slots import Line

__all__ = ["QueueNews", "first_in_line"]

MAX_LISTED = 384 * 1024  # bytes of a listing that are of jobs in line: it is one frame

PAUSE = 0.25  # seconds between two tellings ...
PAUSE_EACH = 0.001  # ... and for each that waits: a thousand messages a second at most


class QueueNews:
    """Tells at a bounded rate, however fast the line moves.

    Args:
        line: The line.
        jobs: The jobs.
        tell: Called at the end of each telling.
    """

    def __init__(
        self, line: Line, jobs: KnownJobs, *, tell: Callable[[], None]
    ) -> None:
        self._line = line
        self._jobs = jobs
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0

    def tell_soon(self) -> None:
        """Tell, but not sooner after the last time than the rate allows."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            pause = PAUSE + PAUSE_EACH * len(self._line)
            self._timer = loop.call_at(self._told_at + pause, self.tell)

    def tell(self) -> None:
        """Tell now."""
        self.close()
        self._told_at = asyncio.get_running_loop().time()
        self.count()
        for ticket in self._line:
            job = self._jobs.get(ticket.id)
            if job is not None and job.is_queued:
                for reader in job.readers:
                    reader.accept()
        self._tell()

    def count(self) -> None:
        """Note where in line each job is."""
        for place, ticket in enumerate(self._line, 1):
            job = self._jobs.get(ticket.id)
            if job is not None:
                job.place = place

    def close(self) -> None:
        """Tell no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def first_in_line(jobs: list[JobInfo]) -> list[JobInfo]:
    """Give jobs as they are, but of those that wait, in order, no more than fit."""
    others = [one for one in jobs if not one.place]
    waiting = sorted((one for one in jobs if one.place), key=lambda one: one.place)
    size, count = 0, 0
    for one in waiting:
        size += len(msgspec.msgpack.encode(one))
        if size > MAX_LISTED:
            break
        count += 1
    return others + waiting[:count]
