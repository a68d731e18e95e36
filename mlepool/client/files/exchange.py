"""Exchanges: things that go by name from one side to the other, in one sync.

What goes is a :class:`~mlepool.client.files.bundles.Bundle`, synced into the folder
that it is to be in. Nothing else in that folder is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from mlepool.client.calls import Calls
from mlepool.client.files.bundles import Bundle, Part, only
from mlepool.client.files.meters import Meter
from mlepool.client.files.remote_trees import RemoteSource, RemoteTarget
from mlepool.client.files.syncing import Sync, SyncOptions
from mlepool.client.files.verbs import (
    local_path,
    local_source,
    local_target,
    tree_options,
)
from mlepool.client.local import LocalJob
from mlepool.files.base import Source, Target
from mlepool.files.scan import check_time
from mlepool.tree import FILE, Entry
from mlepool.wire.values import SyncSummary

__all__ = ["Exchange", "Far", "Near", "Side", "is_folder", "path_error"]

NAMELESS = (b"", b".", b"..")  # how a path ends that does not say what it is called

_Names = dict[bytes, bytes]


class Side(Protocol):
    """Here, or a worker."""

    def locate(self, path: bytes) -> tuple[bytes, bytes, Entry | None]:
        """Give the folder that something is in, its name, and what it is if known."""

    def source(self, folder: bytes, patterns: tuple[str, ...]) -> Source:
        """Make what reads a folder; the patterns say what to leave out."""

    def target(
        self, folder: bytes, patterns: tuple[str, ...], *, meter: Meter
    ) -> Target:
        """Make what writes into a folder, likewise; the meter is told who has it."""


class Near:
    """The side that we are on."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold open what several share; there is nothing here."""
        yield

    def locate(self, path: bytes) -> tuple[bytes, bytes, Entry | None]:
        """Follow all links. A file needs not be looked for in its folder."""
        given = os.path.expanduser(os.fsdecode(path))
        os.stat(given)  # an error has the name that was given
        real = os.fsencode(os.path.realpath(given, strict=True))
        folder, name = os.path.split(real)
        return folder, name, _file_at(real)

    def source(self, folder: bytes, patterns: tuple[str, ...]) -> Source:
        """Make what reads a folder; the patterns say what to leave out."""
        reading, _ = tree_options(patterns, ())
        return local_source(local_path(os.fsdecode(folder)), reading)

    def target(
        self, folder: bytes, patterns: tuple[str, ...], *, meter: Meter
    ) -> Target:
        """Make what writes into a folder, likewise."""
        _, writing = tree_options(patterns, ())
        place = local_path(os.fsdecode(folder))
        return local_target(place, writing, waiting=meter.wait_for)


class Far:
    """The side of a worker."""

    def __init__(self, asker: Calls) -> None:
        self._asker = asker

    def locate(self, path: bytes) -> tuple[bytes, bytes, Entry | None]:
        """Take the path apart; what is there only the worker knows."""
        return *_parted(path), None

    def source(self, folder: bytes, patterns: tuple[str, ...]) -> Source:
        """Make what reads a folder; the patterns say what to leave out."""
        reading, _ = tree_options(patterns, ())
        return RemoteSource(self._asker, folder, reading)

    def target(
        self, folder: bytes, patterns: tuple[str, ...], *, meter: Meter
    ) -> Target:
        """Make what writes into a folder, likewise."""
        _, writing = tree_options(patterns, ())
        waiting = meter.wait_for
        return RemoteTarget(self._asker, folder, writing, waiting=waiting)


class Exchange:
    """Takes things from one side to the other, in one sync."""

    def __init__(
        self, job: LocalJob, origin: Side, end: Side, *, dry_run: bool
    ) -> None:
        self._job = job
        self._origin = origin
        self._end = end
        self._options = SyncOptions(dry_run=dry_run, force=True, digest=False)

    async def run(
        self, paths: Sequence[bytes], target: bytes, *, is_into: bool
    ) -> SyncSummary:
        """Take what is at some paths to a target, or into it under their own names.

        Of a path that has no name (``.``, ``..``, ``~``) the contents are taken.
        """
        if len(paths) == 1 and not _is_named(paths[0]):
            return await self._sync(
                lambda: self._origin.source(paths[0], ()), target, ()
            )
        folder, name = (target, b"") if is_into else _parted(target)
        return await self._move(paths, folder, name=name)

    async def run_for_file(self, paths: Sequence[bytes], target: bytes) -> SyncSummary:
        """Take one thing that has to be a file to a target.

        Raises:
            IsADirectoryError: If it is none.
        """
        if len(paths) > 1 or not _is_named(paths[0]):
            raise path_error(errno.EISDIR, paths[0])
        folder, name = os.path.split(target)
        return await self._move(paths, folder, name=name, is_file=True)

    async def _move(
        self,
        paths: Sequence[bytes],
        folder: bytes,
        *,
        name: bytes,
        is_file: bool = False,
    ) -> SyncSummary:
        parts = await asyncio.to_thread(self._parts, paths, name)
        names = [one for part in parts for one in part.names.values()]

        def open_source(place: bytes, some: Iterable[bytes]) -> Source:
            return self._origin.source(place, only(some))

        return await self._sync(
            lambda: Bundle(parts, open_source, is_file=is_file), folder, only(names)
        )

    async def _sync(
        self, origin: Callable[[], Source], target: bytes, patterns: tuple[str, ...]
    ) -> SyncSummary:
        meter = Meter()

        def ends() -> tuple[Source, Target]:
            return origin(), self._end.target(target, patterns, meter=meter)

        return await Sync(self._job, ends, self._options, meter=meter).run()

    def _parts(self, paths: Sequence[bytes], only_name: bytes) -> list[Part]:
        """Sort out what is to be taken, folder by folder; blocking."""
        parts: dict[tuple[bytes, bool], list[_Names]] = {}
        taken: set[bytes] = set()
        for path in paths:
            if not _is_named(path):
                raise ValueError(f"{os.fsdecode(path)!r} has no name of its own")
            new = only_name or os.path.basename(path.rstrip(b"/"))
            if new in taken:
                raise ValueError(f"two sources are called {os.fsdecode(new)!r}")
            taken.add(new)
            folder, name, entry = self._origin.locate(path)
            group = parts.setdefault((folder, entry is not None), [{}])
            if name in group[-1]:  # two links to one file
                group.append({})
            group[-1][name] = new
        return [
            Part(folder, names, partial(_look, folder, names) if are_files else None)
            for (folder, are_files), group in parts.items()
            for names in group
        ]


async def is_folder(side: Side, path: bytes) -> bool:
    """Look if a path leads to a folder."""
    source = side.source(path, ("/*",))
    try:
        await source.scan()
    except (FileNotFoundError, NotADirectoryError):
        return False
    finally:
        if hasattr(source, "is_success"):
            source.is_success = True  # whatever the answer is
        await source.close()
    return True


def _parted(path: bytes) -> tuple[bytes, bytes]:
    """Give the folder that something is in, and its name."""
    if not _is_named(path):
        raise path_error(errno.ENOENT, path)
    folder, name = os.path.split(path.rstrip(b"/"))
    return folder or b".", name


def _is_named(path: bytes) -> bool:
    """Tell if a path says what it leads to is called."""
    head, name = os.path.split(path.rstrip(b"/"))
    return name not in NAMELESS and (head != b"" or not name.startswith(b"~"))


def _look(folder: bytes, names: Iterable[bytes]) -> list[Entry]:
    """Look at files of this machine."""
    found = (_file_at(os.path.join(folder, name)) for name in names)
    return [entry for entry in found if entry is not None]


def _file_at(path: bytes) -> Entry | None:
    """Describe a file of this machine that can be read; None for all else.

    Raises:
        OSError: If there is nothing, or it can't be read.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return None
    with open(path, "rb"):
        check_time(found, os.fsdecode(path))
    return Entry(
        os.path.basename(path),
        FILE,
        mode=stat.S_IMODE(found.st_mode),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
    )


def path_error(number: int, path: bytes) -> OSError:
    """Make an error about a path, of the type that its number has."""
    return OSError(number, os.strerror(number), os.fsdecode(path))
