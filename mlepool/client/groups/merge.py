"""A reader's own place in the output of many listeners, in the order it comes."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from mlepool.client.groups.run import GroupRun
from mlepool.client.groups.slots import Slot
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.output import EvictedError
from mlepool.client.listening.reader import Reader
from mlepool.wire.records import Record

__all__ = ["Merge", "Merged"]

logger = logging.getLogger("mlepool.client")


class Merged(NamedTuple):
    """What has come from one host.

    Attributes:
        name: The host.
        listener: Its listener.
        records: What has come, in order; None at its end.
    """

    name: str
    listener: AsyncListener
    records: list[Record] | None


class Merge:
    """Gives what comes from each host of a call; who has given waits for the others.

    Nothing is copied: each listener holds its own output, and its worker is told to
    send more as it is taken from here.

    Args:
        run: The call.

    Attributes:
        heard: Called when there is something to take; it must not wait.
    """

    def __init__(self, run: GroupRun) -> None:
        self._run = run
        self.heard: Callable[[], None] = _nobody
        self._ready: deque[_Place] = deque()
        self._places: dict[AsyncListener, _Place] = {}
        self._open = 0
        self._future: asyncio.Future[None] | None = None
        run.hear(self._news)
        for slot in run.slots.values():
            for listener in (*slot.attempts, slot.listener):
                self._add(slot.name, listener)

    @property
    def is_over(self) -> bool:
        """True once all was given."""
        return not self._open and not self._ready and self._run.is_over

    async def next(self) -> Merged | None:
        """Wait for what comes next; None at the end of all."""
        while (found := self.now()) is None and not self.is_over:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return found

    def now(self) -> Merged | None:
        """Give what :meth:`next` would, where it would not wait; else None."""
        while self._ready:
            place = self._ready.popleft()
            place.is_queued = False
            found = self._take(place)
            if found is not None:
                return found
        return None

    def close(self) -> None:
        """Take no more. Twice is fine."""
        self._run.unhear(self._news)
        for place in self._places.values():
            self._close(place)
        self._places.clear()
        self._ready.clear()
        self.heard = _nobody

    # -- within

    def _add(self, name: str, listener: AsyncListener) -> None:
        place = _Place(name, listener)
        place.wake = functools.partial(self._wake, place)
        self._places[listener] = place
        self._open += 1
        listener.intake.watch(place.wake)
        self._wake(place)

    def _news(self, slot: Slot) -> None:
        """Take up a host's new attempt; see if all is over."""
        if slot.listener not in self._places:
            self._add(slot.name, slot.listener)
        self._wake(self._places[slot.listener])
        if self.is_over:
            self._say()

    def _wake(self, place: _Place) -> None:
        if self._queue(place):
            self._say()

    def _queue(self, place: _Place) -> bool:
        """Have a host wait for its turn, if it has something, and does not wait yet."""
        if place.is_queued or place.is_over or place.task is not None:
            return False
        if place.again or place.reader.is_at_once or place.listener.is_left:
            place.is_queued = True
            self._ready.append(place)
        return place.is_queued

    def _say(self) -> None:
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_result(None)
        self.heard()

    def _take(self, place: _Place) -> Merged | None:
        records: list[Record] | None = None
        try:
            if place.again:
                records = place.again.pop()
                if records is not None:
                    place.task = asyncio.create_task(self._read_again(place))
            elif place.reader.is_at_once:
                records = place.reader.now()
        except EvictedError:
            place.task = asyncio.create_task(self._read_again(place))
            return None
        except Exception as exc:
            # What has cut it off is this host's outcome, and not this reader's.
            logger.debug("no more from %s: %s", place.name, exc)
        if records is None:
            self._close(place)
        else:
            self._queue(place)  # behind those that wait already
        return Merged(place.name, place.listener, records)

    async def _read_again(self, place: _Place) -> None:
        """Read what has left memory; only its host waits for it."""
        records = None
        try:
            records = await place.reader.next()
        except Exception as exc:
            # The top of a task: the others' output goes on.
            logger.warning("%s: output can't be read again: %s", place.name, exc)
        place.task = None
        place.again.append(records)
        self._wake(place)

    def _close(self, place: _Place) -> None:
        if place.is_over:
            return
        place.is_over = True
        self._open -= 1
        place.listener.intake.unwatch(place.wake)
        place.wake = None
        if place.task is not None:
            place.task.cancel()


def _nobody() -> None:
    """Tell nobody."""


class _Place:
    """A place in one listener's output.

    Attributes:
        name: The host.
        listener: Its listener.
        reader: Where in its output this is.
        is_queued: True while it waits for its turn.
        is_over: True once all of it was given.
        again: What was read again, and not given yet.
        task: Reads that.
        wake: Called when something has come.
    """

    def __init__(self, name: str, listener: AsyncListener) -> None:
        self.name = name
        self.listener = listener
        self.reader = Reader(listener, quiet=True)
        self.is_queued = False
        self.is_over = False
        self.again: list[list[Record] | None] = []
        self.task: asyncio.Task[None] | None = None
        self.wake: Any = None
