"""Sessions on a worker: one tree there, which its requests are about."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Protocol

import msgspec

from mlepool.client.ids import new_job_id
from mlepool.errors import MlepoolError, RemoteError, RemoteProtocolError
from mlepool.files.aside import aside
from mlepool.files.base import Problem, Scan, SourceOptions, TargetOptions
from mlepool.tree import Entry, PageReader, make_outline, unpack_outline

__all__ = ["Asker", "RemoteSession", "SessionLostError", "as_answer", "as_answers"]

PAGE = 512 * 1024  # bytes of a page of a manifest at most
PAGES = 4  # of them asked for at once
MAX_RULES = 64  # pages of what ignore files say; bounds what a worker makes us hold
CLOSE_LIMIT = 5.0  # seconds for the worker to hear that a session is over


_decode_rules = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode


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
    exists: bool = True
    rules: int = 0
    outline: bytes = b""


class RemoteSession:
    """A tree on a worker, to be read or written.

    Args:
        asker: Makes requests of the worker.
        root: The tree, as the worker's paths go.
        options: How it is read or written.

    Attributes:
        is_success: Said to the worker in the end.
    """

    KIND = ""

    def __init__(
        self, asker: Asker, root: bytes, options: SourceOptions | TargetOptions
    ) -> None:
        self.is_success = False
        self._asker = asker
        self._root = root
        self._options = options
        self._session = new_job_id()
        self._steps = itertools.count(1)
        self._is_open = False

    async def scan(self) -> Scan:
        """See what is there; the pages of the manifest come some at a time."""
        return await self._list(None)

    async def scan_like(self, near: Awaitable[Scan]) -> Scan:
        """See what is there, being told only of what differs from what is here."""
        return await self._list(near)

    async def _list(self, near: Awaitable[Scan] | None) -> Scan:
        asked = {"step": next(self._steps), "outline": near is not None}
        first: _Manifest = as_answer(await self._first(asked), _Manifest)
        try:
            if first.outline and near is not None:
                entries = await self._groups(first.outline, await near)
            else:
                entries = await self._entries(first)
            rules = await self._rules(first)
        except ValueError as exc:
            raise RemoteProtocolError(f"the worker's manifest: {exc}") from exc
        return Scan(entries, first.problems, first.exists, rules)

    async def _first(self, asked: dict[str, Any]) -> Any:
        """Ask what is there; if need be right behind asking to open the tree."""
        if self._is_open:
            return await self._ask("scan", asked)
        self._is_open = True
        place = {"root": self._root, "options": self._options}
        opening = asyncio.create_task(self._ask(f"open_{self.KIND}", place))
        scanning = asyncio.create_task(self._ask("scan", asked))
        try:
            await opening  # what is wrong with it is said here
            return await scanning
        finally:
            opening.cancel()
            scanning.cancel()
            await asyncio.gather(opening, scanning, return_exceptions=True)

    async def _entries(self, first: _Manifest) -> list[Entry]:
        reader = PageReader()
        entries = reader.read(first.page)
        for begin in range(1, first.pages, PAGES):
            numbers = range(begin, min(begin + PAGES, first.pages))
            asked = [self._ask("page", {"number": n}, size=PAGE) for n in numbers]
            for page in await asyncio.gather(*asked):
                entries += reader.read(as_answer(page, bytes))
                await asyncio.sleep(0)  # a page takes some ms: others go on between
        return entries

    async def _groups(self, outline: bytes, known: Scan) -> list[Entry]:
        """Put what is there together of what is here, and of groups that are not."""
        groups, near = unpack_outline(outline), known.entries
        here = known.outline or await aside(len(near), lambda: make_outline(near))
        if groups == here:
            return near
        begins = itertools.accumulate((one.size for one in here), initial=0)
        places = dict(zip(here, begins, strict=False))
        lacking = [number for number, one in enumerate(groups) if one not in places]
        pages = self._group_pages(lacking)
        reader, entries = PageReader(), list[Entry]()
        for group in groups:
            begin = places.get(group)
            if begin is None:
                entries += reader.read(await anext(pages))
            else:
                some = near[begin : begin + group.size]
                reader.pass_over(some)
                entries += some
        return entries

    async def _group_pages(self, numbers: Sequence[int]) -> AsyncIterator[bytes]:
        """Get groups, as many at a time as fit in an answer."""
        while numbers:
            answer = await self._ask("groups", {"numbers": numbers}, size=PAGE)
            pages: list[bytes] = as_answer(answer, list[bytes])
            if not 0 < len(pages) <= len(numbers):
                raise ValueError(f"{len(pages)} pages for {len(numbers)} groups")
            for page in pages:
                yield page
            numbers = numbers[len(pages) :]

    async def _rules(self, first: _Manifest) -> list[tuple[bytes, bytes]]:
        """Get what ignore files say: pages that come after those of the manifest."""
        if not first.rules:
            return []
        if first.rules > MAX_RULES:
            raise ValueError(f"ignore files of {first.rules} pages")
        pages = [
            as_answer(await self._ask("page", {"number": number}, size=PAGE), bytes)
            for number in range(first.pages, first.pages + first.rules)
        ]
        try:
            return _decode_rules(b"".join(pages))
        except msgspec.DecodeError as exc:
            raise ValueError(f"not what ignore files say: {exc}") from exc

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

    async def _do(self, verb: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        """Ask for what is done once, however often it is asked."""
        step = {"step": next(self._steps)}
        return await self._ask(verb, {**step, **arguments}, size=size)


def as_answer(answer: Any, kind: Any) -> Any:
    """Read an answer.

    Raises:
        RemoteProtocolError: If it is none of that kind.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError(f"not an answer: {exc}") from exc


def as_answers(answer: Any, kind: Any, count: int) -> Any:
    """Read a list of answers, one for each question."""
    found = as_answer(answer, kind)
    if len(found) != count:
        raise RemoteProtocolError(f"{len(found)} answers to {count} questions")
    return found
