"""Bundles: files and folders from several places, as the one tree that is synced."""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from mlepool.files.base import Offer, Piece, Problem, Scan, Source
from mlepool.tree import FOLDER, LINK, Entry, order_of

__all__ = ["MAX_LINKS", "Bundle", "OpenSource", "Part", "only"]

MAX_LINKS = 40  # as Linux follows at most

T = TypeVar("T")

# Makes what reads a folder: its path, and which of its names.
OpenSource = Callable[[bytes, Iterable[bytes]], Source]

# What a pattern can't say as it is: its own signs, newlines, bytes that are no text.
_SPECIAL = re.compile(r"[^\w./,:;=+~@%&()-]+", re.ASCII)


class Part(NamedTuple):
    """Some of the files and folders that are directly in one folder.

    Attributes:
        folder: The folder's path.
        names: Which, and what they are called in the bundle.
        look: Tells what they are, in place of a scan; None for a scan.
        links: How many links were followed to get here.
    """

    folder: bytes
    names: Mapping[bytes, bytes]
    look: Callable[[], Sequence[Entry]] | None = None
    links: int = 0


class Bundle:
    """A :class:`~mlepool.files.base.Source` that is put together of others.

    Where a name in a part is that of a link, what it points to is taken; links further
    below stay links.

    Args:
        parts: What is in it; no two things in it have one name.
        open_source: Makes what reads a folder, some of its names only.
        is_file: True if all that is named has to be files.

    Attributes:
        is_success: For what is read on a worker, which is told of it in the end.
    """

    def __init__(
        self, parts: Sequence[Part], open_source: OpenSource, *, is_file: bool = False
    ) -> None:
        self._parts = parts
        self._is_file = is_file
        self.is_success = False
        self._open = open_source
        self._sources: list[Source] = []
        self._origins: dict[bytes, tuple[Source, bytes]] = {}

    async def scan(self) -> Scan:
        """See what is there of all parts.

        Raises:
            FileNotFoundError: If one of what is named is not there.
            IsADirectoryError: If it is a folder, and has to be a file.
            OSError: If links lead nowhere.
        """
        await self._let_go(is_success=True)
        entries: list[Entry] = []
        problems: list[Problem] = []
        waiting = list(self._parts)
        while waiting:
            part = waiting.pop(0)
            source = self._open(part.folder, part.names)
            self._sources.append(source)
            found = await _look_at(part, source)
            waiting += _followed(part, found)
            entries += self._take(part, source, found.entries)
            problems += [
                Problem(path, one.text)
                for one in found.problems
                if (path := _renamed(one.path, part.names)) is not None
            ]
        entries.sort(key=lambda entry: order_of(entry.path))
        return Scan(entries, problems)

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Read a file from an offset, and name its chunks."""
        source, own = self._origin(entry)
        answer = await source.describe(own, number, offset=offset)
        return _told(answer, entry)

    async def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Describe small files, each of them whole."""
        answers: list[Offer | Problem] = []
        for source, group in self._by_source(entries):
            own = [(number, self._origin(entry)[1]) for number, entry in group]
            told = await source.describe_many(own)
            pairs = zip(told, group, strict=True)
            answers += [_told(answer, entry) for answer, (_, entry) in pairs]
        return answers

    async def read(
        self,
        entry: Entry,
        number: int,
        *,
        ranges: Sequence[tuple[int, int]],
        pack: bool = True,
    ) -> list[Piece] | Problem:
        """Read ranges (offset, length) of a file."""
        source, own = self._origin(entry)
        answer = await source.read(own, number, ranges=ranges, pack=pack)
        return _told(answer, entry)

    async def read_many(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[Piece | Problem]:
        """Read small files, each of them whole."""
        answers: list[Piece | Problem] = []
        for source, group in self._by_source(entries):
            own = [(number, self._origin(entry)[1]) for number, entry in group]
            known = {self._origin(entry)[1].path: entry for _, entry in group}
            for answer in await source.read_many(own, pack=pack):
                if isinstance(answer, Problem):
                    answer = _told(answer, known[answer.path])
                answers.append(answer)
        return answers

    async def close(self) -> None:
        """Let go of all parts. Twice is fine."""
        await self._let_go(is_success=self.is_success)

    async def _let_go(self, *, is_success: bool) -> None:
        sources, self._sources = self._sources, []
        for source in sources:
            if hasattr(source, "is_success"):
                source.is_success = is_success
            await source.close()

    def _take(
        self, part: Part, source: Source, entries: Iterable[Entry]
    ) -> Iterable[Entry]:
        for entry in entries:
            path = _renamed(entry.path, part.names)
            if self._is_file and entry.kind == FOLDER and entry.path in part.names:
                raise _error(errno.EISDIR, os.path.join(part.folder, entry.path))
            if path is not None and not _is_followed(part, entry):
                self._origins[path] = source, entry.path
                yield msgspec.structs.replace(entry, path=path)

    def _origin(self, entry: Entry) -> tuple[Source, Entry]:
        source, path = self._origins[entry.path]
        return source, msgspec.structs.replace(entry, path=path)

    def _by_source(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> Iterable[tuple[Source, list[tuple[int, Entry]]]]:
        for _, group in itertools.groupby(
            entries, key=lambda one: id(self._origins[one[1].path][0])
        ):
            members = list(group)
            yield self._origins[members[0][1].path][0], members


def only(names: Iterable[bytes]) -> tuple[str, ...]:
    """Give patterns that leave out all that is in a folder, but for some names.

    A name that no pattern can say brings others with it.
    """
    texts = (name.decode("utf-8", "surrogateescape") for name in names)
    return ("/*", *(f"!/{_SPECIAL.sub('*', text)}" for text in texts))


async def _look_at(part: Part, source: Source) -> Scan:
    """See what is in a part, and that all is there that was named."""
    found = await source.scan() if part.look is None else Scan([*part.look()])
    # What can't be read is there, too.
    paths = [
        *(entry.path for entry in found.entries),
        *(problem.path for problem in found.problems),
    ]
    there = {path.partition(b"/")[0] for path in paths}
    for name in part.names:
        if name not in there:
            raise _error(errno.ENOENT, os.path.join(part.folder, name))
    return found


def _followed(part: Part, found: Scan) -> Iterable[Part]:
    """Give parts for what links point to."""
    for entry in found.entries:
        if _is_followed(part, entry):
            path = os.path.join(part.folder, entry.target)
            folder, name = os.path.split(path.rstrip(b"/"))
            if part.links >= MAX_LINKS or name in (b"", b".", b".."):
                raise _error(errno.ELOOP, os.path.join(part.folder, entry.path))
            names = {name: part.names[entry.path]}
            yield Part(folder, names, links=part.links + 1)


def _is_followed(part: Part, entry: Entry) -> bool:
    return entry.kind == LINK and entry.path in part.names


def _error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), os.fsdecode(path))


def _renamed(path: bytes, names: Mapping[bytes, bytes]) -> bytes | None:
    head, slash, rest = path.partition(b"/")
    name = names.get(head)
    return None if name is None else name + slash + rest


def _told(answer: T | Problem, entry: Entry) -> T | Problem:
    """Give an answer about an entry; a problem has the path that it has here."""
    return Problem(entry.path, answer.text) if isinstance(answer, Problem) else answer
