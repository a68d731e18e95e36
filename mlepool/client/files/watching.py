"""Syncs that go on: what changes in a folder here follows on a worker."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, ParamSpec, TypeVar

import msgspec

from mlepool.client.calls import Calls
from mlepool.client.files.meters import Meter
from mlepool.client.files.remote_trees import RemoteTarget
from mlepool.client.files.syncing import Sync, SyncOptions
from mlepool.client.files.verbs import (
    local_path,
    local_store,
    own_folders,
    tree_options,
)
from mlepool.client.local import LocalJob
from mlepool.client.options import DEFAULT_MEMORY, CallOptions
from mlepool.errors import ClientError, MlepoolError, SyncIncompleteError
from mlepool.files.base import Scan, Source, SourceOptions, Target
from mlepool.files.source import LocalSource
from mlepool.files.watcher import POLL, Watcher
from mlepool.tree import FOLDER
from mlepool.wire.values import SyncSummary

__all__ = ["begin_watch"]

LOOKS = 10  # at a tree whose folders change all the time, until it is synced as it is
AGAIN = 30.0  # seconds after which what went wrong is tried again, if nothing changes

P = ParamSpec("P")
T = TypeVar("T")


def begin_watch(
    asker: Calls,
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    pull: bool,
    sync_options: SyncOptions,
    options: CallOptions,
) -> LocalJob:
    """Begin a sync that goes on until it is stopped; see :meth:`AsyncConnection.sync`.

    Raises:
        ValueError: If it is to pull, or only to say what would be done.
    """
    if pull:
        raise ValueError("watch=True follows a folder that is here: it can't pull")
    if sync_options.dry_run:
        raise ValueError("watch=True has no plan: it can't be a dry_run")
    reading, writing = tree_options(sync_options.exclude, sync_options.ignore_files)
    place = os.fspath(local_path(source))
    there = asker.place(os.fsencode(os.fspath(destination)))

    def make_source(watching: _Watching) -> _WatchedSource:
        return _WatchedSource(watching, os.fsencode(place), reading)

    def make_target(meter: Meter) -> Target:
        return RemoteTarget(asker, there, writing, waiting=meter.wait_for)

    async def work(job: LocalJob) -> Any:
        async with _Watching(place) as watching:
            ends = functools.partial(make_source, watching), make_target
            await _Watch(job, watching, ends, options=sync_options).run()

    command = f"sync {os.fspath(source)} {os.fspath(destination)} --watch"
    return LocalJob(asker.name, command, work, options=options, memory=DEFAULT_MEMORY)


class _Watching:
    """A watcher in a thread of its own; ``async with`` ends both."""

    def __init__(self, root: str) -> None:
        self.watcher = Watcher(root)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watcher")

    async def do(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        call = functools.partial(work, *args, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def changed(self, limit: float | None) -> None:
        """Wait until something may have changed, or so many seconds; a moment if 0."""
        end = None if limit is None else time.monotonic() + limit
        while not await self.do(self.watcher.wait):
            if end is not None and time.monotonic() >= end:
                return

    async def __aenter__(self) -> _Watching:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await asyncio.shield(self.do(self.watcher.close))
        finally:
            self._thread.shutdown(wait=False)


class _WatchedSource(LocalSource):
    """A source that is watched from before it is seen: so no change is missed.

    Attributes:
        seen: What was there when a sync was planned from it, or will be.
        is_behind: True if there may be more by now that nobody will tell of again.
    """

    def __init__(
        self, watching: _Watching, root: bytes, options: SourceOptions
    ) -> None:
        super().__init__(root, options, store=local_store(), own=own_folders())
        self._watching = watching
        self._has_looked = self._has_planned = False
        self.seen = Scan([])
        self.is_behind = False

    async def look(self) -> Scan:
        """See what is there; what the first :meth:`scan` gives, too."""
        self.seen = await self._scan()
        self._has_looked = True
        return self.seen

    async def scan(self) -> Scan:
        """See what is there: the first time, what is planned from."""
        if not self._has_planned:
            self._has_planned = True
            return self.seen if self._has_looked else await self.look()
        # A file is looked at again. What else has come since is in no plan, and the
        # watcher has told of it, or will not: folders are watched anew with a look.
        found = await self._scan()
        self.is_behind |= found != self.seen
        return found

    async def _scan(self) -> Scan:
        watching = self._watching
        for _ in range(LOOKS):
            try:
                found = await super().scan()
            except OSError:
                await watching.do(watching.watcher.close)
                raise
            unread = {one.path for one in found.problems}
            folders = [
                one.path
                for one in found.entries
                if one.kind == FOLDER and one.path not in unread
            ]
            if await watching.do(watching.watcher.watch, folders):
                break
        else:
            self.is_behind = True
        return found


_Makers = tuple[Callable[[], _WatchedSource], Callable[[Meter], Target]]


class _Watch:
    """One sync after another, whenever something changes: the work of a LocalJob.

    Args:
        job: Who is told of what is done.
        watching: Tells when to look.
        ends: Make the source, and the target.
        options: How to sync.
    """

    def __init__(
        self,
        job: LocalJob,
        watching: _Watching,
        ends: _Makers,
        *,
        options: SyncOptions,
    ) -> None:
        self._job = job
        self._watching = watching
        self._make_source, self._make_target = ends
        self._options = options
        self._source: _WatchedSource
        self._last: Scan | None = None  # what was planned from, if all of it was done
        self._limit: float | None = None  # seconds after which to look unless told
        self._total = SyncSummary()
        self._said: list[str] = []  # what goes wrong, as it was said last
        self._trouble = ""

    async def run(self) -> NoReturn:
        """Do it, until it is stopped.

        Raises:
            SyncHaltedError: If the first sync looks like a mistake.
            OSError: If an end is not usable for the first.
        """
        await self._sync(self._make_source())
        # Once is enough: who keeps size and mtime of what changes is not followed.
        self._options = msgspec.structs.replace(self._options, checksum=False)
        while True:
            self._job.go_on()
            self._say_trouble()
            await self._watching.changed(self._limit)
            try:
                await self._follow()
            except ClientError:
                raise
            except (MlepoolError, OSError) as exc:
                self._complain([str(exc)])

    async def _follow(self) -> None:
        """Sync, unless nothing but what is ignored has changed."""
        source = self._make_source()
        try:
            is_same = await source.look() == self._last
        except BaseException:
            await source.close()
            raise
        if not is_same:
            await self._sync(source)
        else:
            self._said = []
            self._limit = 0 if source.is_behind else None
            await source.close()

    async def _sync(self, source: _WatchedSource) -> None:
        meter, sources = Meter(), [source]

        def ends() -> tuple[Source, Target]:
            self._source = sources.pop() if sources else self._make_source()
            return self._source, self._make_target(meter)

        sync = Sync(self._job, ends, self._options, meter=meter)
        self._last, self._limit = None, AGAIN
        try:
            summary = await sync.run()
            self._said = []
        except SyncIncompleteError as exc:
            summary = exc.summary
            self._complain(f"{one.path}: {one.text}" for one in summary.problems)
        finally:
            self._job.value = self._total  # not that of this sync alone
        self._job.value = self._total = _sum(self._total, summary)
        self._settle(self._source, summary)

    def _settle(self, source: _WatchedSource, summary: SyncSummary) -> None:
        """Decide when to look again, and what is a change then."""
        # What is no part of a sync, as a pipe, is not waited for.
        if len(summary.problems) == len(source.seen.problems):
            self._last, self._limit = source.seen, None
        if source.is_behind:
            self._limit = 0

    def _say_trouble(self) -> None:
        trouble = self._watching.watcher.trouble
        if trouble and trouble != self._trouble:
            self._job.say([f"! {trouble}: it is looked at every {POLL:g} s"])
        self._trouble = trouble

    def _complain(self, texts: Iterable[str]) -> None:
        """Say what goes wrong, if it is not what went wrong before."""
        lines = [f"! {_in_one_line(one)}" for one in texts]
        if lines != self._said:
            self._job.say(lines)
        self._said = lines


def _sum(total: SyncSummary, last: SyncSummary) -> SyncSummary:
    """Count what was done; what is said of the tree is said of it as it is now."""
    return msgspec.structs.replace(
        last,
        sent=total.sent + last.sent,
        deleted=total.deleted + last.deleted,
        bytes_total=total.bytes_total + last.bytes_total,
        bytes_sent=total.bytes_sent + last.bytes_sent,
        seconds=total.seconds + last.seconds,
    )


def _in_one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
