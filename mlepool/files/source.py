"""The end of a sync that is read, on this machine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from mlepool.files.aside import log_failure
from mlepool.files.base import Offer, Piece, Problem, Scan, SourceOptions
from mlepool.files.reading import TreeReader
from mlepool.files.store import Store
from mlepool.tree import Entry, Group

__all__ = ["LocalSource"]

P = ParamSpec("P")
T = TypeVar("T")


class LocalSource:
    """A tree on this machine, read in a thread of its own.

    Many tasks may use it at once: what they ask for is done one after the other.

    Args:
        root: Where the tree is; links on the way to it are followed, none in it.
        options: How to look at it.
        store: What is known of its files, and is told more. It stays open; several
            sources may have the same.
        is_shared: Several targets are written from it: what was read for one is held
            for the others, some MiB of it.
        own: Folders of ours, with secrets in them: they are left out.
        allowed: Folders that the root must be in, or be; none: anywhere.
        closed: Folders that nothing is read in.
    """

    def __init__(
        self,
        root: str | bytes,
        options: SourceOptions,
        *,
        store: Store | None = None,
        is_shared: bool = False,
        own: Sequence[Path] = (),
        allowed: Sequence[Path] = (),
        closed: Sequence[Path] = (),
    ) -> None:
        self._reader = TreeReader(
            root,
            options,
            store=store,
            is_shared=is_shared,
            own=own,
            allowed=allowed,
            closed=closed,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="source")
        self._is_closed = False

    async def scan(self) -> Scan:
        """See what is there, ignored entries left out.

        Raises:
            FileNotFoundError: If there is nothing.
            NotADirectoryError: If it is not a folder.
        """
        return await self._run(self._reader.scan)

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Name a file's chunks from an offset on, up to some MiB.

        Args:
            entry: The file, as it was seen.
            number: Its number.
            offset: 0, or where the last part ended: it is a Problem if the file was
                not described up to there.

        Raises:
            ValueError: If no chunk begins at the offset.
        """
        return await self._run(self._reader.describe, entry, number, offset=offset)

    async def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Describe small files, each of them whole, in one go.

        Their content is held, up to some MiB, for the :meth:`read_many` that follows.
        """
        return await self._run(self._reader.describe_many, entries)

    async def read(
        self,
        entry: Entry,
        number: int,
        *,
        ranges: Sequence[tuple[int, int]],
        pack: bool = True,
    ) -> list[Piece] | Problem:
        """Read ranges (offset, length) of a file; packed, if that is wanted and a gain.

        Raises:
            ValueError: If a range is not within the file.
        """
        read = self._reader.read
        return await self._run(read, entry, number, ranges=ranges, pack=pack)

    async def read_many(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[Piece | Problem]:
        """Read small files, each of them whole, in one go; packed as in :meth:`read`.

        Raises:
            ValueError: If one is larger than a piece may be.
        """
        return await self._run(self._reader.read_many, entries, pack=pack)

    async def read_new(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[tuple[Offer, Piece] | Problem]:
        """Describe and read small files, each of them whole, in one go."""
        return await self._run(self._reader.read_new, entries, pack=pack)

    async def name_content(
        self,
        entries: Sequence[Entry],
        groups: Sequence[Group],
        digests: dict[bytes, bytes],
    ) -> tuple[str, list[Entry]]:
        """Name the tree by its content, without looking at it.

        A file counts as unchanged if it has its size and mtime, as it does for a sync.

        Args:
            entries: What is in it.
            groups: These in groups, if they are known; else none.
            digests: Content digests that are known already, by path; more are added.

        Returns:
            Its name; or an empty one, and the files whose content is not known.
        """
        return await self._run(self._reader.name, entries, groups, digests)

    async def close(self) -> None:
        """Let go of everything, when what is under way is done. Twice is fine.

        The store is told a moment later what was found out.
        """
        if not self._is_closed:
            self._is_closed = True
            last = self._thread.submit(self._reader.close)
            last.add_done_callback(log_failure)
            self._thread.shutdown(wait=False)

    async def _run(
        self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs
    ) -> T:
        call = functools.partial(work, *args, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
