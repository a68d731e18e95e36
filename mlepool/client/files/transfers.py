"""Transfers: the content of files, from one end of a sync to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mlepool.client.files.meters import Meter
from mlepool.files.base import Chunk, Offer, Piece, Problem, Source, Target
from mlepool.files.chunks import SMALL, content_digest
from mlepool.tree import Entry

__all__ = ["Transfer", "run_all"]

BATCH_FILES = 500  # small files that are described and sent together
BATCH_SIZE = 2 * 1024 * 1024  # bytes of them
BATCHES = 4  # under way: while one waits for an answer, others are read and sent
LARGE_FILES = 16  # under way: many are not much larger, and wait for answers, too
GROUP = 896 * 1024  # bytes of missing chunks that are read and sent together: a frame
GROUPS = 4  # of them in memory, of whichever files

Numbered = tuple[int, Entry]
Move = asyncio.Task[Problem | None]
T = TypeVar("T")


class Transfer:
    """Moves the content of files that the target expects.

    Args:
        source: The end that is read.
        target: The end that is written.
        meter: Counts.
        done: Called with files that have arrived, one time each.

    Attributes:
        digests: Content digests of the files that have arrived, by path.
        failed: Files that were not as they should be; the target was told so.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        *,
        meter: Meter,
        done: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._source = source
        self._target = target
        self._meter = meter
        self._done = done
        self._room = asyncio.Semaphore(GROUPS)
        self.digests: dict[bytes, bytes] = {}
        self.failed: dict[bytes, tuple[Entry, Problem]] = {}

    async def run(self, files: Iterable[Numbered]) -> None:
        """Move files; small ones in batches, beside large ones part by part.

        Raises:
            Exception: What an end raises; all is given up then.
        """
        small: list[Numbered] = []
        large: list[Numbered] = []
        for one in files:
            (small if one[1].size <= SMALL else large).append(one)
        batches, others = _batches(small), iter(large)
        movers = [_each(self._send_batch, batches) for _ in range(BATCHES)]
        movers += [_each(self._send_large, others) for _ in range(LARGE_FILES)]
        await run_all(movers)

    # -- small files

    async def _send_batch(self, batch: list[Numbered]) -> None:
        answers = await self._source.describe_many(batch)
        offers: list[Offer] = []
        come: list[Numbered] = []
        for (number, entry), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Problem):
                await self._fail(number, entry, answer)
            else:
                offers.append(answer)
                come.append((number, entry))
                self.digests[entry.path] = content_digest(answer.chunks)
        missing = await self._target.offer(offers) if offers else []
        lacking = [one for one, some in zip(come, missing, strict=True) if some]
        if lacking:
            await self._send_whole(lacking)
        arrived = [entry for _, entry in come if entry.path not in self.failed]
        self._meter.add(len(arrived), sum(entry.size for entry in arrived))
        self._done(arrived)

    async def _send_whole(self, files: list[Numbered]) -> None:
        pack = self._target.wants_packed
        by_path = {entry.path: (number, entry) for number, entry in files}
        pieces = []
        for answer in await self._source.read_many(files, pack=pack):
            if isinstance(answer, Problem):
                await self._fail(*by_path[answer.path], answer)
            else:
                pieces.append(answer)
        await self._write(pieces)

    # -- large files

    async def _send_large(self, file: Numbered) -> None:
        number, entry = file
        moves: list[Move] = []
        try:
            problem = await self._send_parts(number, entry, moves)
            for move in moves:
                problem = await move or problem
        finally:
            await _cancel(moves)
        if problem is not None:
            await self._fail(number, entry, problem)
        else:
            self._meter.add(files=1)
            self._done([entry])

    async def _send_parts(
        self, number: int, entry: Entry, moves: list[Move]
    ) -> Problem | None:
        """Offer a file part by part, and begin to send what is missing of each."""
        chunks: list[Chunk] = []
        offset, is_last = 0, False
        while not is_last:
            offer = await self._source.describe(entry, number, offset=offset)
            if isinstance(offer, Problem):
                return offer
            (missing,) = await self._target.offer([offer])
            chunks += offer.chunks
            sizes = [chunk.length for chunk in offer.chunks]
            self._meter.add(size=sum(sizes) - sum(sizes[one] for one in missing))
            for ranges in _groups(offer, missing):
                await self._room.acquire()
                move = asyncio.create_task(self._move(number, entry, ranges))
                move.add_done_callback(lambda _: self._room.release())
                moves.append(move)
            problem = _first_problem(moves)
            if problem is not None:
                return problem
            offset, is_last = offer.offset + sum(sizes), offer.is_last
        self.digests[entry.path] = content_digest(chunks)
        return None

    async def _move(
        self, number: int, entry: Entry, ranges: list[tuple[int, int]]
    ) -> Problem | None:
        pack = self._target.wants_packed
        pieces = await self._source.read(entry, number, ranges=ranges, pack=pack)
        if isinstance(pieces, Problem):
            return pieces
        await self._write(pieces)
        self._meter.add(size=sum(length for _, length in ranges))
        return None

    # -- both

    async def _write(self, pieces: Sequence[Piece]) -> None:
        if pieces:
            await self._target.write(pieces)
            self._meter.sent += sum(len(one.data) for one in pieces)

    async def _fail(self, number: int, entry: Entry, problem: Problem) -> None:
        self.failed[entry.path] = entry, problem
        self.digests.pop(entry.path, None)
        await self._target.drop([number])


async def run_all(works: Iterable[Awaitable[Any]]) -> list[Any]:
    """Do things side by side; the first that fails ends all, and is raised."""
    tasks = [asyncio.ensure_future(one) for one in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _each(
    send: Callable[[T], Coroutine[Any, Any, None]], items: Iterator[T]
) -> None:
    for item in items:
        await send(item)


def _batches(files: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    batch: list[Numbered] = []
    size = 0
    for one in files:
        batch.append(one)
        size += one[1].size
        if len(batch) >= BATCH_FILES or size >= BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _groups(offer: Offer, missing: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Give the ranges of missing chunks, some of them at a time."""
    wanted, group, total, at = set(missing), list[tuple[int, int]](), 0, offer.offset
    for index, chunk in enumerate(offer.chunks):
        if index in wanted:
            if group and total + chunk.length > GROUP:
                yield group
                group, total = [], 0
            group.append((at, chunk.length))
            total += chunk.length
        at += chunk.length
    if group:
        yield group


def _first_problem(moves: Iterable[Move]) -> Problem | None:
    found = (move.result() for move in moves if move.done())
    return next((one for one in found if one is not None), None)
