"""What jobs are fed: written as far as each takes it, the rest once it has read."""

from __future__ import annotations

import functools
from collections.abc import Callable

from mlepool.supervisor.job import Job
from mlepool.supervisor.messages import Fed, Feed
from mlepool.supervisor.waiter import WRITE, Waiter

__all__ = ["Inputs"]


class Inputs:
    """Feeds jobs, side by side.

    Args:
        waiter: What waits for pipes; each callback takes nothing.
        send: Tells the worker.
    """

    def __init__(self, waiter: Waiter, send: Callable[[Fed], None]) -> None:
        self._waiter = waiter
        self._send = send

    def feed(self, feed: Feed, job: Job | None) -> None:
        """Feed a job; None for one that there is not."""
        if job is None or job.outcome is not None:
            self._send(Fed(feed.id, feed.offset, closed=True))
            return
        fd, was_watched = job.stdin.fd, job.stdin.is_waiting
        try:
            job.stdin.feed(feed.offset, feed.data, end=feed.end, writer=feed.writer)
        except ValueError as exc:
            closed = not job.stdin.is_open
            self._send(Fed(job.id, job.stdin.fed, closed=closed, problem=str(exc)))
            return
        self._after_feeding(job, fd, was_watched=was_watched)

    def close(self, job: Job) -> None:
        """Close a job's stdin; twice is fine."""
        if job.stdin.is_waiting:
            self._waiter.unregister(job.stdin.fd)
            job.stdin.close()
            self._send(Fed(job.id, job.stdin.fed, closed=True))
        job.stdin.close()

    def _after_feeding(self, job: Job, fd: int, *, was_watched: bool) -> None:
        is_waiting = job.stdin.is_waiting
        if is_waiting and not was_watched:
            write = functools.partial(self._write, job, fd)
            self._waiter.register(fd, WRITE, write)
        elif was_watched and not is_waiting:
            self._waiter.unregister(fd)
        self._send(Fed(job.id, job.stdin.fed, closed=not job.stdin.is_open))

    def _write(self, job: Job, fd: int) -> None:
        if job.stdin.fd != fd:
            return  # closed since select(); the number may be another pipe's by now
        job.stdin.write()
        self._after_feeding(job, fd, was_watched=True)
