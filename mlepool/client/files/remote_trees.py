"""The end of a sync that is on a worker: its calls are requests over the link."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mlepool.client.files.pace import pace_of
from mlepool.client.files.remote_sessions import (
    Asker,
    RemoteSession,
    as_answer,
    as_answers,
)
from mlepool.errors import RemoteProtocolError
from mlepool.files.base import (
    Offer,
    Piece,
    Problem,
    Scan,
    SourceOptions,
    TargetOptions,
    TargetReport,
)
from mlepool.tree import Entry

__all__ = ["RemoteSource", "RemoteTarget"]

T = TypeVar("T")

FRAME = 336 * 1024  # bytes of content in a request: what is small waits behind it
FAST_FRAME = 896 * 1024  # where it does not wait long; docs/topics/protocol.md says why
ANSWER = 448 * 1024  # bytes of content in an answer, which must fit in one frame
LIST = 256 * 1024  # bytes of paths or digests in a request
PIECES = 16  # in a frame, that have room beside its content
ROW = 96  # bytes at most of an entry's numbers, or of a chunk
ASK_HOLDER = 1.0  # seconds between questions who has a tree that is waited for


class RemoteSource(RemoteSession):
    """The end that is read, on a worker; a :class:`~mlepool.files.base.Source`."""

    KIND = "source"

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Have a part of a file described."""
        place = {"entry": entry, "number": number, "offset": offset}
        answer = await self._ask("describe", place)
        found: Offer | Problem = as_answer(answer, Offer | Problem)
        _check_offer(found, entry, number, offset=offset)
        return found

    async def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Have small files described."""
        found: list[Offer | Problem] = []
        for some in _grouped(entries, lambda one: len(one[1].path) + ROW, LIST):
            answer = await self._ask("describe_many", {"entries": some})
            found += as_answers(answer, list[Offer | Problem], len(some))
        for (number, entry), one in zip(entries, found, strict=True):
            _check_offer(one, entry, number)
            if isinstance(one, Offer) and not one.is_last:
                raise RemoteProtocolError("a small file is described in parts")
        return found

    def __init__(self, asker: Asker, root: bytes, options: SourceOptions) -> None:
        super().__init__(asker, root, options)
        self._pace = pace_of(asker, self.KIND)

    async def read(
        self,
        entry: Entry,
        number: int,
        *,
        ranges: Sequence[tuple[int, int]],
        pack: bool = True,
    ) -> list[Piece] | Problem:
        """Have ranges of a file read, as many at a time as fit in an answer."""
        parts = _grouped(_cut(ranges, ANSWER), lambda one: one[1], ANSWER)

        async def read(some: list[tuple[int, int]]) -> list[Piece | Problem]:
            size = sum(length for _, length in some)
            place = {"entry": entry, "number": number, "ranges": some}
            return await self._ask_for_pieces("read", place, size=size, pack=pack)

        pieces: list[Piece] = []
        for some in await _all([read(one) for one in parts]):
            for one in some:
                if isinstance(one, Problem):
                    return one
                pieces.append(one)
        return pieces

    async def read_many(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[Piece | Problem]:
        """Have small files read."""
        parts = _grouped(entries, lambda one: one[1].size + ROW, ANSWER)

        async def read(some: list[tuple[int, Entry]]) -> list[Piece | Problem]:
            size = sum(entry.size + ROW for _, entry in some)
            place = {"entries": some}
            return await self._ask_for_pieces("read_many", place, size=size, pack=pack)

        all_found = await _all([read(one) for one in parts])
        found = list(itertools.chain.from_iterable(all_found))
        paths = {entry.path for _, entry in entries}
        if not all(isinstance(one, Piece) or one.path in paths for one in found):
            raise RemoteProtocolError("a problem with a file that was not asked for")
        return found

    async def _ask_for_pieces(
        self, verb: str, place: dict[str, Any], *, size: int, pack: bool
    ) -> list[Piece | Problem]:
        """Ask for content, packed if the link is slower than that."""
        place = {**place, "pack": pack and self._pace.is_slow}
        with self._pace.trip(size) as trip:
            answer = await self._ask(verb, place, size=size)
            found: list[Piece | Problem] = as_answer(answer, list[Piece | Problem])
            trip.part = _weight(one for one in found if isinstance(one, Piece)) / size
        return found


class RemoteTarget(RemoteSession):
    """The end that is written, on a worker; a :class:`~mlepool.files.base.Target`."""

    KIND = "target"

    def __init__(
        self,
        asker: Asker,
        root: bytes,
        options: TargetOptions,
        *,
        waiting: Callable[[str], None] = lambda holder: None,
    ) -> None:
        super().__init__(asker, root, options)
        self._waiting = waiting
        self._pace = pace_of(asker, self.KIND)

    @property
    def wants_packed(self) -> bool:
        """Tell if the link is slower than packing."""
        return self._pace.is_slow

    async def _list(self, near: Awaitable[Scan] | None) -> Scan:
        """Take the tree, and see what is there; who has it meanwhile is told."""
        asking = asyncio.create_task(self._ask_for_holder())
        try:
            return await super()._list(near)
        finally:
            asking.cancel()
            self._waiting("")

    async def _ask_for_holder(self) -> None:
        known = ""
        while True:
            await asyncio.sleep(ASK_HOLDER)
            holder = str(await self._ask("holder"))
            if holder != known:
                self._waiting(holder)
            known = holder

    async def reserve(self, size: int, count: int) -> None:
        """Have the worker check that there is room."""
        await self._do("reserve", {"size": size, "count": count})

    async def expect(self, first: int, entries: Sequence[Entry]) -> None:
        """Tell which files come."""
        for some in _grouped(entries, _size_of, LIST):
            await self._do("expect", {"first": first, "entries": some})
            first += len(some)

    async def offer(self, offers: Sequence[Offer]) -> list[list[int]]:
        """Tell what files consist of."""
        missing: list[list[int]] = []
        for some in _grouped(offers, lambda one: ROW * (1 + len(one.chunks)), LIST):
            answer = await self._do("offer", {"offers": some})
            missing += as_answers(answer, list[list[int]], len(some))
        for offer, indexes in zip(offers, missing, strict=True):
            _check_missing(indexes, len(offer.chunks))
        return missing

    async def write(
        self, pieces: Sequence[Piece], *, offers: Sequence[Offer] = ()
    ) -> None:
        """Send what is missing, or files that were not offered."""
        limit = FRAME if self._pace.is_slow else FAST_FRAME
        row = 2 * ROW if offers else ROW
        parts = _grouped(pieces, lambda one: len(one.data) + row, limit + PIECES * row)
        by_number = {one.number: one for one in offers}
        await _all([self._send(some, by_number) for some in parts])

    async def _send(self, pieces: list[Piece], offers: dict[int, Offer]) -> None:
        size = _weight(pieces)
        place: dict[str, Any] = {"pieces": pieces}
        if offers:
            place["offers"] = [offers[one.number] for one in pieces]
        with self._pace.trip(size) as trip:
            answer = await self._do("write", place, size=size)
            trip.there = as_answer(answer, float)

    async def drop(self, numbers: Sequence[int]) -> None:
        """Tell which files don't come."""
        for some in _grouped(numbers, lambda _: ROW, LIST):
            await self._do("drop", {"numbers": some})

    async def prepare(
        self,
        *,
        folders: Sequence[Entry] = (),
        links: Sequence[Entry] = (),
        touched: Sequence[Entry] = (),
        deleted: Sequence[bytes] = (),
    ) -> None:
        """Tell what else is to be done, in as many requests as it takes."""
        none: dict[str, Any] = {"folders": [], "links": [], "touched": []}
        none["deleted"] = []
        for some in _grouped(deleted, lambda one: len(one) + ROW, LIST):
            await self._do("prepare", {**none, "deleted": some})
        for name, all_of in (("folders", folders), ("links", links)):
            for group in _grouped(all_of, _size_of, LIST):
                await self._do("prepare", {**none, name: group})
        for group in _grouped(touched, _size_of, LIST):
            await self._do("prepare", {**none, "touched": group})

    async def commit(self, *, digest: str = "") -> TargetReport:
        """Have it all done."""
        answer = await self._ask("commit", {"digest": digest})
        report: TargetReport = as_answer(answer, TargetReport)
        return report


async def _all(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do things side by side; one alone needs no task."""
    return [await works[0]] if len(works) == 1 else await asyncio.gather(*works)


def _check_offer(
    found: Offer | Problem, entry: Entry, number: int, *, offset: int = 0
) -> None:
    """See that an answer is about what was asked, and that it leads on."""
    if isinstance(found, Problem):
        return
    end = found.offset + sum(one.length for one in found.chunks)
    fits = (found.number, found.offset) == (number, offset) and end <= entry.size
    if not fits or (not found.is_last and not found.chunks):
        raise RemoteProtocolError("what is said of a file is not about its next part")


def _check_missing(indexes: list[int], count: int) -> None:
    """See that what is missing are some of so many chunks, in order."""
    last = -1
    for one in indexes:
        if not last < one < count:
            raise RemoteProtocolError("the worker lacks chunks that there are not")
        last = one


def _size_of(entry: Entry) -> int:
    return len(entry.path) + len(entry.target) + ROW


def _weight_of(piece: Piece) -> int:
    return len(piece.data) + ROW


def _weight(pieces: Iterable[Piece]) -> int:
    return sum(map(_weight_of, pieces))


def _grouped(items: Sequence[T], size_of: Any, limit: int) -> Iterator[list[T]]:
    """Part items into groups of a limited size, in their order."""
    group: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


def _cut(ranges: Iterable[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Part ranges that are longer than a limit."""
    return [
        (at, min(limit, offset + length - at))
        for offset, length in ranges
        for at in range(offset, offset + length, limit)
    ]
