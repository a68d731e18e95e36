"""The end of a sync that is on a worker: its calls are requests over the link."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from mlepool.client.calls import new_job_id
from mlepool.errors import MlepoolError, RemoteError, RemoteProtocolError
from mlepool.files.base import (
    Offer,
    Piece,
    Problem,
    Scan,
    SourceOptions,
    TargetOptions,
    TargetReport,
)
from mlepool.tree import Entry, PageReader

__all__ = ["Asker", "RemoteSource", "RemoteTarget", "SessionLostError"]

T = TypeVar("T")

FRAME = 112 * 1024  # bytes of content in a request: see docs/topics/files.md
ANSWER = 256 * 1024  # bytes of content in an answer, which must fit in one frame
LIST = 256 * 1024  # bytes of paths or digests in a request
ROW = 96  # bytes at most of an entry's numbers, or of a chunk
ASK_HOLDER = 1.0  # seconds between questions who has a tree that is waited for
CLOSE_LIMIT = 5.0  # seconds for the worker to hear that a session is over


class Asker(Protocol):
    """What makes requests of a worker."""

    async def ask(self, name: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        """Call a command for its value; see :meth:`Calls.ask`."""


class SessionLostError(MlepoolError):
    """The worker does not know the session (any more): it has to be begun anew."""


class _Manifest(msgspec.Struct, frozen=True):
    pages: int
    page: bytes
    problems: list[Problem] = []
    more: int = 0
    exists: bool = True


class _RemoteTree:
    """One session on a worker."""

    KIND = ""

    def __init__(
        self, asker: Asker, root: bytes, options: SourceOptions | TargetOptions
    ) -> None:
        self._asker = asker
        self._root = root
        self._options = options
        self._session = new_job_id()
        self._steps = itertools.count(1)
        self._is_open = False
        self.is_success = False  # said to the worker in the end

    async def scan(self) -> Scan:
        """See what is there; the pages of the manifest come side by side."""
        if not self._is_open:
            self._is_open = True
            verb = f"open_{self.KIND}"
            await self._ask(verb, {"root": self._root, "options": self._options})
        answer = await self._ask("scan", {"step": next(self._steps)})
        first = _convert(answer, _Manifest)
        others = await asyncio.gather(
            *(self._ask("page", {"number": one}) for one in range(1, first.pages))
        )
        reader, entries = PageReader(), []
        try:
            for page in (first.page, *others):
                entries += reader.read(_convert(page, bytes))
        except ValueError as exc:
            raise RemoteProtocolError(f"the worker's manifest: {exc}") from exc
        problems = first.problems
        if first.more:
            problems = [*problems, Problem(b"", f"and {first.more} more")]
        return Scan(entries, problems, first.exists)

    async def close(self) -> None:
        """End the session. Twice is fine, and so is a worker that can't be reached."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._ask("close", {"is_success": self.is_success})
        except (MlepoolError, TimeoutError):
            return  # the worker ends it by itself

    async def _ask(
        self, verb: str, arguments: dict[str, Any] | None = None, *, size: int = 0
    ) -> Any:
        arguments = {"session": self._session, **(arguments or {})}
        try:
            return await self._asker.ask(f"_tree_{verb}", arguments, size=size)
        except RemoteError as exc:
            if exc.type_name == "UnknownSessionError":
                raise SessionLostError(str(exc)) from exc
            raise


class RemoteSource(_RemoteTree):
    """The end that is read, on a worker; a :class:`~mlepool.files.base.Source`."""

    KIND = "source"

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Have a part of a file described."""
        place = {"entry": entry, "number": number, "offset": offset}
        answer = await self._ask("describe", place)
        found: Offer | Problem = _convert(answer, Offer | Problem)
        return found

    async def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Have small files described."""
        found: list[Offer | Problem] = []
        for some in _grouped(entries, lambda one: len(one[1].path) + ROW, LIST):
            answer = await self._ask("describe_many", {"entries": some})
            found += _answers(answer, list[Offer | Problem], len(some))
        return found

    async def read(
        self, entry: Entry, number: int, *, ranges: Sequence[tuple[int, int]]
    ) -> list[Piece] | Problem:
        """Have ranges of a file read, as many at a time as fit in an answer."""
        parts = _grouped(_cut(ranges, ANSWER), lambda one: one[1], ANSWER)

        async def read(some: list[tuple[int, int]]) -> list[Piece | Problem]:
            size = sum(length for _, length in some)
            place = {"entry": entry, "number": number, "ranges": some}
            answer = await self._ask("read", place, size=size)
            found: list[Piece | Problem] = _convert(answer, list[Piece | Problem])
            return found

        pieces: list[Piece] = []
        for some in await asyncio.gather(*(read(one) for one in parts)):
            for one in some:
                if isinstance(one, Problem):
                    return one
                pieces.append(one)
        return pieces

    async def read_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Piece | Problem]:
        """Have small files read."""
        parts = _grouped(entries, lambda one: one[1].size + ROW, ANSWER)

        async def read(some: list[tuple[int, Entry]]) -> list[Piece | Problem]:
            size = sum(entry.size + ROW for _, entry in some)
            answer = await self._ask("read_many", {"entries": some}, size=size)
            found: list[Piece | Problem] = _convert(answer, list[Piece | Problem])
            return found

        all_found = await asyncio.gather(*(read(one) for one in parts))
        return list(itertools.chain.from_iterable(all_found))


class RemoteTarget(_RemoteTree):
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

    async def scan(self) -> Scan:
        """Take the tree, and see what is there; who has it meanwhile is told."""
        asking = asyncio.create_task(self._ask_for_holder())
        try:
            return await super().scan()
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
            missing += _answers(answer, list[list[int]], len(some))
        for offer, indexes in zip(offers, missing, strict=True):
            if indexes != sorted(set(indexes)) or not all(
                0 <= one < len(offer.chunks) for one in indexes
            ):
                raise RemoteProtocolError("the worker lacks chunks that there are not")
        return missing

    async def write(self, pieces: Sequence[Piece]) -> None:
        """Send what is missing."""
        parts = _grouped(pieces, lambda one: len(one.data) + ROW, FRAME + ROW)
        sent = [
            self._do("write", {"pieces": some}, size=_weight(some)) for some in parts
        ]
        await asyncio.gather(*sent)

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

    async def commit(self) -> TargetReport:
        """Have it all done."""
        report: TargetReport = _convert(await self._ask("commit"), TargetReport)
        return report

    async def _do(self, verb: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        """Ask for what is done once, however often it is asked."""
        step = {"step": next(self._steps)}
        return await self._ask(verb, {**step, **arguments}, size=size)


def _size_of(entry: Entry) -> int:
    return len(entry.path) + len(entry.target) + ROW


def _weight(pieces: Iterable[Piece]) -> int:
    return sum(len(one.data) + ROW for one in pieces)


def _convert(answer: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError(f"not an answer: {exc}") from exc


def _answers(answer: Any, kind: Any, count: int) -> Any:
    found = _convert(answer, kind)
    if len(found) != count:
        raise RemoteProtocolError(f"{len(found)} answers to {count} questions")
    return found


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
