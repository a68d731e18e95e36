"""Pump: moves a job's output from the loop's thread to the caller's.

It crosses the border here, in batches, through janus queues, never a line at a time.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import janus

from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.output import EvictedError
from mlepool.client.listening.reader import Reader
from mlepool.client.portal import Portal
from mlepool.wire.records import Record

__all__ = ["Pump"]

BATCHES_AHEAD = 4  # batches on their way to a blocking reader, of 1 MiB at most

_NOTHING: Any = object()


class Pump:
    """Moves one reader's records from the loop to the reader's thread, in batches.

    What comes is moved in the very callback that it comes in: a task's wake-up would
    cost a line half as much again. Only what has left memory is read by a task.
    """

    def __init__(
        self, listener: AsyncListener, portal: Portal, *, new: bool = False
    ) -> None:
        self._listener = listener
        self._portal = portal
        self._new = new
        self._queue: janus.Queue[Any] | None = None
        self._reader: Reader
        self._task: asyncio.Task[None] | None = None
        self._is_full = False
        self._has_failed = False
        self._has_ended = False
        self._has_said_so = False

    def take(self, timeout: float | None) -> list[Record] | None:
        """Wait for a batch; None at the end.

        Raises:
            queue.Empty: If none came within the timeout.
        """
        if self._queue is None:
            self._portal.do(self.begin)
        assert self._queue is not None
        if timeout is not None:
            timeout = min(timeout, threading.TIMEOUT_MAX)
        try:
            item = self._queue.sync_q.get(timeout=timeout)
        except janus.SyncQueueShutDown:
            self._after_close()
            return None
        if self._is_full:
            self._portal.post(self._go_on)
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[no-any-return]

    def _after_close(self) -> None:
        """Say once that the listener was closed; after that comes the end."""
        if self._has_said_so:
            return
        self._has_said_so = True
        error = self._portal.do(self._listener.shut_error)
        if error is not None:
            raise error

    def stop(self) -> None:
        """Move no more; twice is fine."""
        self._portal.post(self.end)

    def end(self) -> None:
        """Stop at once; in the loop's thread."""
        if self._queue is not None:
            self._listener.intake.unwatch(self._move)
            if self._task is not None:
                self._task.cancel()
            self._queue.close()

    def begin(self) -> None:
        """Begin to move; called in the loop's thread."""
        self._queue = janus.Queue(maxsize=BATCHES_AHEAD)
        self._reader = Reader(self._listener, new=self._new)
        self._listener.intake.watch(self._move)
        self._move()

    def _go_on(self) -> None:
        self._is_full = False
        self._move()

    def _move(self) -> None:
        """Move what is there, as far as there is room."""
        assert self._queue is not None
        target = self._queue.async_q
        while self._has_news() and self._task is None and not self._has_ended:
            # Said first, then looked at: the reader's thread takes items meanwhile.
            self._is_full = True
            if target.full():
                return
            self._is_full = False
            try:
                item = self._next_item()
            except EvictedError:
                self._task = asyncio.get_running_loop().create_task(self._run())
                return
            if item is _NOTHING:
                return
            target.put_nowait(item)
            if item is None:
                self._has_ended = True
                self._listener.intake.unwatch(self._move)

    def _has_news(self) -> bool:
        """Tell if there may be something to move: as a rule it is one batch."""
        return (
            self._reader.is_at_once or self._has_failed or self._listener.is_interrupted
        )

    def _next_item(self) -> Any:
        """Give what comes next: records, what failed, None at the end, or nothing."""
        if self._has_failed:
            return None
        if not self._reader.is_at_once:
            shut = self._listener.shut_error()
            self._has_failed = shut is not None  # after that comes the end
            return shut or self._listener.take_expiry() or _NOTHING
        try:
            return self._reader.now()
        except EvictedError:
            raise
        except Exception as exc:
            # Whatever it was, the reader is told.
            self._has_failed = self._listener.done
            return exc

    async def _run(self) -> None:
        """Move what has to be read again."""
        assert self._queue is not None
        item: Any = ()
        while item is not None:
            try:
                item = await self._reader.next()
            except Exception as exc:
                # The top of a task: whatever it was, the reader is told.
                await self._queue.async_q.put(exc)
                item = None if self._listener.done else ()
            if item != ():
                await self._queue.async_q.put(item)
