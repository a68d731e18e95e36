"""Transfers: the content of files, from one end of a sync to the other."""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Container,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, Protocol, TypeVar, runtime_checkable

from mlepool.client.files.batches import (
    Asked,
    Lacking,
    Numbered,
    batches_of,
    in_frames,
)
from mlepool.client.files.meters import Meter
from mlepool.client.files.parts import GROUP, Parts, Ranges, groups_of
from mlepool.files.base import Chunk, Offer, Piece, Problem, Source, Target
from mlepool.files.chunks import SMALL, content_digest
from mlepool.tree import Entry

__all__ = ["Transfer", "run_all"]

BATCH_SIZE = 2 * 1024 * 1024  # bytes of small files that are described together
BATCHES = 4  # under way: while one waits for an answer, others are read and sent
LARGE_FILES = 16  # under way: many are not much larger, and wait for answers, too
PROBE = 32  # new files that are offered: if all are unknown, the others are not
GROUPS = 4  # of missing chunks in memory, of whichever files

Move = asyncio.Task[Problem | None]
T = TypeVar("T")


@runtime_checkable
class _Near(Protocol):
    """A source that is not on a worker."""

    async def read_new(
        self, entries: Sequence[Numbered], *, pack: bool
    ) -> list[tuple[Offer, Piece] | Problem]: ...


class Transfer:
    """Moves the content of files that the target expects.

    Args:
        source: The end that is read.
        target: The end that is written.
        meter: Counts.
        done: Called with files that have arrived, one time each.
        there: Paths of files that the target has, in other versions.

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
        there: Container[bytes] = (),
    ) -> None:
        self._source = source
        self._target = target
        self._meter = meter
        self._done = done
        self._there = there
        self._room = asyncio.Semaphore(GROUPS)
        self.digests: dict[bytes, bytes] = {}
        self.failed: dict[bytes, tuple[Entry, Problem]] = {}

    async def run(self, files: Iterable[Numbered]) -> None:
        """Move files; small ones in batches, beside large ones part by part.

        Raises:
            Exception: What an end raises; all is given up then.
        """
        small: list[Numbered] = []
        medium: list[Numbered] = []
        large: list[Numbered] = []
        new: list[Numbered] = []
        for one in files:
            size, is_there = one[1].size, one[1].path in self._there
            if size > SMALL:
                (medium if size <= GROUP else large).append(one)
            elif is_there or not size:
                small.append(one)
            else:
                new.append(one)
        if not await self._are_unknown(new):
            small, new = [*small, *new], []
        batches, others = batches_of(small, BATCH_SIZE), iter(large)
        unasked = batches_of(new, GROUP)  # a frame each
        frames = batches_of(medium, BATCH_SIZE)
        movers = [_each(self._send_batch, batches) for _ in range(BATCHES)]
        movers += [_each(self._send_unasked, unasked) for _ in range(BATCHES)]
        movers += [_each(self._send_medium, frames) for _ in range(BATCHES)]
        movers += [_each(self._send_large, others) for _ in range(LARGE_FILES)]
        await run_all(movers)

    # -- small files

    async def _are_unknown(self, new: list[Numbered]) -> bool:
        """Send some files all over a tree; True if the target had none of them.

        Then it is expected to have at most one in so many of the others, too.
        """
        if not isinstance(self._source, _Near) or len(new) <= 2 * PROBE:
            return False
        some = new[:: len(new) // PROBE]
        del new[:: len(new) // PROBE]
        return await self._send_batch(some) == len(some)

    async def _send_unasked(self, batch: list[Numbered]) -> None:
        """Send new files, and say what they consist of."""
        assert isinstance(self._source, _Near)
        come: list[Numbered] = []
        offers: list[Offer] = []
        pieces: list[Piece] = []
        pack = self._target.wants_packed
        answers = await self._source.read_new(batch, pack=pack)
        for (number, entry), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Problem):
                await self._fail(number, entry, answer)
                continue
            come.append((number, entry))
            offers.append(answer[0])
            pieces.append(answer[1])
            self.digests[entry.path] = content_digest(answer[0].chunks)
        await self._write(pieces, offers)
        self._arrive(come)

    async def _send_batch(self, batch: list[Numbered]) -> int:
        """Send what the target has not; gives how many files that were."""
        asked = await self._ask(batch)
        lacking = [one for one, _, missing in asked if missing]
        if lacking:
            await self._send_whole(lacking)
        self._arrive([one for one, _, _ in asked])
        return len(lacking)

    async def _ask(self, batch: list[Numbered]) -> list[Asked]:
        """Offer files, each of them whole; those that can't be read are no more."""
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
        return list(zip(come, offers, missing, strict=True))

    def _arrive(self, files: list[Numbered]) -> None:
        arrived = [entry for _, entry in files if entry.path not in self.failed]
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

    # -- files that are not small, and fit in a frame

    async def _send_medium(self, batch: list[Numbered]) -> None:
        """Send what is missing of them, of several in a frame."""
        asked = await self._ask(batch)
        for frame in in_frames(asked):
            async with self._room:
                await self._send_frame(frame)
        self._arrive([one for one, _, _ in asked])

    async def _send_frame(self, frame: list[Lacking]) -> None:
        pack = self._target.wants_packed
        reads = [
            self._source.read(entry, number, ranges=ranges, pack=pack)
            for (number, entry), ranges in frame
        ]
        pieces: list[Piece] = []
        for (file, _), answer in zip(frame, await run_all(reads), strict=True):
            if isinstance(answer, Problem):
                await self._fail(*file, answer)
            else:
                pieces += answer
        await self._write(pieces)

    # -- large files

    async def _send_large(self, file: Numbered) -> None:
        number, entry = file
        moves: list[Move] = []
        parts = Parts(self._source, self._target, number=number, entry=entry)
        try:
            problem = await self._send_parts(entry, parts, moves)
            for move in moves:
                problem = await move or problem
        finally:
            await parts.close()
            await _cancel(moves)
        if problem is not None:
            await self._fail(number, entry, problem)
        else:
            self._meter.add(files=1)
            self._done([entry])

    async def _send_parts(
        self, entry: Entry, parts: Parts, moves: list[Move]
    ) -> Problem | None:
        """Begin to send what is missing of each part."""
        chunks: list[Chunk] = []
        async for part in parts:
            if isinstance(part, Problem):
                return part
            offer, missing = part
            chunks += offer.chunks
            sizes = [chunk.length for chunk in offer.chunks]
            self._meter.add(size=sum(sizes) - sum(sizes[one] for one in missing))
            for ranges in groups_of(offer, missing):
                await self._room.acquire()
                move = asyncio.create_task(self._move(offer.number, entry, ranges))
                move.add_done_callback(lambda _: self._room.release())
                moves.append(move)
            problem = _first_problem(moves)
            if problem is not None:
                return problem
        self.digests[entry.path] = content_digest(chunks)
        return None

    async def _move(self, number: int, entry: Entry, ranges: Ranges) -> Problem | None:
        pack = self._target.wants_packed
        pieces = await self._source.read(entry, number, ranges=ranges, pack=pack)
        if isinstance(pieces, Problem):
            return pieces
        await self._write(pieces)
        self._meter.add(size=sum(length for _, length in ranges))
        return None

    # -- both

    async def _write(
        self, pieces: Sequence[Piece], offers: Sequence[Offer] = ()
    ) -> None:
        if pieces:
            await self._target.write(pieces, offers=offers)
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
    send: Callable[[T], Coroutine[Any, Any, object]], items: Iterator[T]
) -> None:
    for item in items:
        await send(item)


def _first_problem(moves: Iterable[Move]) -> Problem | None:
    found = (move.result() for move in moves if move.done())
    return next((one for one in found if one is not None), None)
