"""The parts of a large file: described and offered ahead of what is sent."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from mlepool.files.base import Offer, Problem, Source, Target
from mlepool.files.chunks import SMALL
from mlepool.tree import Entry

__all__ = ["GROUP", "Parts", "Ranges", "groups_of", "ranges_of"]

GROUP = 896 * 1024  # bytes of missing chunks that are read and sent together: a frame
AHEAD = 16  # chunks that are passed over, for one behind them that fits

Part = tuple[Offer, list[int]]
Ranges = list[tuple[int, int]]
T = TypeVar("T")


class Parts:
    """Describes a file part by part, and asks the target what it lacks of each.

    It is an iterator: of each part, and the indexes of its missing chunks; a Problem is
    the last. While one part is sent, the next is offered, and the one behind described.

    Args:
        source: The end that is read.
        target: The end that is written.
        number: The file's number.
        entry: The file.
    """

    def __init__(
        self, source: Source, target: Target, *, number: int, entry: Entry
    ) -> None:
        self._source = source
        self._target = target
        self._number = number
        self._entry = entry
        self._tasks: set[asyncio.Task[Any]] = set()
        first = self._begin(self._describe(0))
        self._next: asyncio.Task[Any] | None = self._begin(self._offer(first))

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> Part | Problem:
        if self._next is None:
            raise StopAsyncIteration
        found: Part | Problem
        found, behind = await self._next
        self._next = None if behind is None else self._begin(self._offer(behind))
        return found

    async def close(self) -> None:
        """Give up what is ahead. Twice is fine."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _describe(self, offset: int) -> Offer | Problem:
        return await self._source.describe(self._entry, self._number, offset=offset)

    async def _offer(
        self, described: asyncio.Task[Offer | Problem]
    ) -> tuple[Part | Problem, asyncio.Task[Offer | Problem] | None]:
        """Offer a part once it is described; the one behind it is described meanwhile.

        Returns:
            The part, and the one behind it; None if it is the last.
        """
        offer, behind = await described, None
        if isinstance(offer, Problem):
            return offer, None
        if not offer.is_last:
            end = offer.offset + sum(one.length for one in offer.chunks)
            behind = self._begin(self._describe(end))
        (missing,) = await self._target.offer([offer])
        return (offer, missing), behind

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody asks for what lies behind a part that failed


def ranges_of(offer: Offer, missing: Sequence[int]) -> Ranges:
    """Give where in a file missing chunks are: offset, length."""
    lengths = [one.length for one in offer.chunks]
    begins = list(itertools.accumulate(lengths, initial=offer.offset))
    return [(begins[index], lengths[index]) for index in missing]


def groups_of(offer: Offer, missing: Sequence[int]) -> Iterator[Ranges]:
    """Give the ranges of missing chunks, as many at a time as fit in a frame.

    One that does not fit is left to the next group, and some behind it are taken.
    """
    waiting = deque(ranges_of(offer, missing))
    while waiting:
        group, left, room = Ranges(), Ranges(), GROUP
        while waiting and room >= SMALL and len(left) < AHEAD:
            place = waiting.popleft()
            if group and place[1] > room:
                left.append(place)
            else:
                group.append(place)
                room -= place[1]
        waiting.extendleft(reversed(left))
        yield group
