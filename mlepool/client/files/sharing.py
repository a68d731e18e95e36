"""What goes to many workers is listed, read, hashed and packed once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from mlepool.client.calls import Calls
from mlepool.client.files.batches import Numbered
from mlepool.client.files.exchange import Near
from mlepool.client.files.meters import Meter
from mlepool.client.files.methods import texts_in
from mlepool.client.files.remote_trees import RemoteTarget
from mlepool.client.files.syncing import Sync, SyncOptions
from mlepool.client.files.verbs import (
    local_path,
    local_store,
    own_folders,
    tree_options,
)
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions, Kind, split_options
from mlepool.files.base import (
    Offer,
    Piece,
    Problem,
    Scan,
    Source,
    SourceOptions,
    Target,
)
from mlepool.files.source import LocalSource

__all__ = ["SharedNear", "SharedSync", "SyncOptions", "share_sync"]

BATCHES = 8  # of small new files that are held for others, up to a frame each


def share_sync(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    sync_options: SyncOptions,
    options: CallOptions,
) -> Callable[..., LocalJob]:
    """Give what begins a sync on one connection, all of which read the folder once.

    It is given a connection's calls, and the listener, if that was made before.

    Begun at the same time they list it once, too. None waits for another: one that
    falls behind by more than what is held reads again.
    """
    reading, writing = tree_options(sync_options.exclude, sync_options.ignore_files)
    place, there = os.fsencode(local_path(source)), os.fsencode(os.fspath(destination))
    tree = _SharedTree(place, reading)

    async def work(asker: Calls, there: bytes, job: LocalJob) -> Any:
        meter = Meter()
        async with tree.opened() as near:

            def ends() -> tuple[Source, Target]:
                far = RemoteTarget(asker, there, writing, waiting=meter.wait_for)
                return near, far

            return await Sync(job, ends, sync_options, meter=meter).run()

    command = f"sync {os.fspath(source)} {os.fspath(destination)}"

    def begin(asker: Calls, listener: AsyncListener | None = None) -> LocalJob:
        its_work = functools.partial(work, asker, asker.place(there))
        return LocalJob(
            asker.name, command, its_work, options=options, listener=listener
        )

    return begin


class SharedSync:
    """The sync that comes before one run on many hosts: the tree is read once."""

    def __init__(self) -> None:
        self._begin: Callable[..., LocalJob] | None = None

    async def over(
        self,
        connection: Runner,
        *,
        source: str | os.PathLike[str],
        destination: str | os.PathLike[str],
        delete: bool = False,
        exclude: str | Iterable[str] = (),
        ignore_files: str | Iterable[str] = (".gitignore", ".mlepoolignore"),
        checksum: bool = False,
        force: bool = False,
        **keywords: Any,
    ) -> AsyncListener:
        """Sync over one connection, with the arguments of its own ``sync``.

        Raises:
            TypeError: For a keyword that there is not.
        """
        options, rest = split_options(keywords, kind=Kind.VALUE)
        if rest:
            raise TypeError(f"sync() has no keyword {next(iter(rest))!r}")
        chosen = SyncOptions(
            delete=delete,
            checksum=checksum,
            force=force,
            exclude=texts_in("exclude", exclude),
            ignore_files=texts_in("ignore_files", ignore_files),
        )
        self._begin = self._begin or share_sync(
            source, destination, sync_options=chosen, options=options
        )
        return await connection.run_here(self._begin)


class Runner(Protocol):
    """A connection."""

    async def run_here(self, begin: Callable[[Calls], LocalJob]) -> AsyncListener:
        """Begin what runs here, over this connection, and wait as a call does."""


class SharedNear(Near):
    """The side that we are on, of several puts of the same: it is read once."""

    def __init__(self) -> None:
        self._sources: dict[tuple[bytes, tuple[str, ...]], _SharedSource] = {}
        self._users = 0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold open what is read, while one of them needs it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                sources, self._sources = self._sources, {}
                for one in sources.values():
                    await asyncio.shield(one.end())

    def source(self, folder: bytes, patterns: tuple[str, ...]) -> Source:
        """Make what reads a folder, or give that of another."""
        found = self._sources.get((folder, patterns))
        if found is None:
            place = os.fsencode(local_path(os.fsdecode(folder)))
            reading, _ = tree_options(patterns, ())
            found = _SharedSource(place, reading)
            self._sources[folder, patterns] = found
        return found


class _SharedTree:
    """A folder that several syncs read; open while one of them does."""

    def __init__(self, path: bytes, options: SourceOptions) -> None:
        self._path = path
        self._options = options
        self._users = 0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Source]:
        """Hold it open, and give what reads it."""
        if not self._users:
            self._source = _SharedSource(self._path, self._options)
        source = self._source
        self._users += 1
        try:
            yield source
        finally:
            self._users -= 1
            if not self._users:
                await asyncio.shield(source.end())


class _Reading(NamedTuple):
    """Small files that are read, or were of late."""

    entries: Sequence[Numbered]
    pack: bool
    task: asyncio.Task[list[tuple[Offer, Piece] | Problem]]


class _SharedSource(LocalSource):
    """A source of several syncs; each closes it, and only :meth:`end` does."""

    def __init__(self, path: bytes, options: SourceOptions) -> None:
        store, own = local_store(), own_folders()
        super().__init__(path, options, store=store, is_shared=True, own=own)
        self._next: asyncio.Task[Scan] | None = None
        self._read: deque[_Reading] = deque(maxlen=BATCHES)

    async def scan(self) -> Scan:
        """See what is there; those who ask at the same time are told the same."""
        if self._next is None:
            self._next = asyncio.create_task(self._look())
            self._next.add_done_callback(_has_ended)
        return await asyncio.shield(self._next)

    async def _look(self) -> Scan:
        await asyncio.sleep(0)  # the others ask now
        self._next = None
        return await super().scan()

    async def read_new(
        self, entries: Sequence[Numbered], *, pack: bool = True
    ) -> list[tuple[Offer, Piece] | Problem]:
        """Describe and read small files; who asks for the same is told the same."""
        for one in self._read:
            if one.pack == pack and one.entries == entries:
                return await asyncio.shield(one.task)
        task = asyncio.create_task(super().read_new(entries, pack=pack))
        task.add_done_callback(_has_ended)
        self._read.append(_Reading(entries, pack, task))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Leave it open: the others have it still."""

    async def end(self) -> None:
        """Let go of everything."""
        self._read.clear()
        await super().close()


def _has_ended(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # who asked was told; nobody may be there any more
