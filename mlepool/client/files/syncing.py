"""Syncs: make one tree like another, whichever end is here and which on a worker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from mlepool.client.files.digests import name_tree
from mlepool.client.files.meters import Meter
from mlepool.client.files.remote_sessions import SessionLostError
from mlepool.client.files.reports import Report
from mlepool.client.files.transfers import Transfer, run_all
from mlepool.client.local import LocalJob
from mlepool.files.aside import aside
from mlepool.files.base import (
    Problem,
    Scan,
    Source,
    SourceOptions,
    Target,
    TargetReport,
)
from mlepool.files.ignore import leave_out
from mlepool.tree import FILE, FOLDER, Entry, Plan, check_plan, make_plan
from mlepool.wire.values import SyncSummary

__all__ = ["Ends", "Sync", "SyncOptions"]

RETRIES = 3  # times that files are looked at again which change while they are read
RETRY_AFTER = 0.05  # seconds before the first of them; three times as long each time
MAX_BEGINS = 100  # a worker that is restarted without end is given up after so many

Ends = Callable[[], tuple[Source, Target]]


class SyncOptions(msgspec.Struct, frozen=True):
    """How to sync.

    Attributes:
        delete: What is not in the source is deleted.
        checksum: Compare content, also of files with the same size and mtime.
        dry_run: Say what would be done, and do nothing.
        force: Also do what looks like a mistake.
        digest: Give the tree a name by its content.
        exclude: Patterns of what is left out, which both ends are told, too.
        ignore_files: Names of files that hold such patterns, likewise.
    """

    delete: bool = False
    checksum: bool = False
    dry_run: bool = False
    force: bool = False
    digest: bool = True
    exclude: tuple[str, ...] = ()
    ignore_files: tuple[str, ...] = SourceOptions().ignore_files


class Sync:
    """One sync, begun anew whenever the worker forgets it: the work of a LocalJob.

    Args:
        job: Who is told of what is done.
        ends: Makes both ends; called again to begin anew.
        options: How to sync.
        meter: Counts how far it is; a new one by default.

    Attributes:
        meter: How far it is.
    """

    def __init__(
        self,
        job: LocalJob,
        ends: Ends,
        options: SyncOptions,
        *,
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self._job = job
        self._ends = ends
        self._options = options
        self._report = Report(job, self.meter)
        job.listener.tracker = self.meter.now

    async def run(self) -> SyncSummary:
        """Do it.

        Raises:
            SyncHaltedError: If it looks like a mistake, and nothing was changed.
            SyncIncompleteError: If files had to be left out; all else was done.
            OSError: If an end is not usable, or the disk is full.
        """
        for attempt in itertools.count(1):
            source, target = self._ends()
            try:
                async with _closing(source, target):
                    return await self._run(source, target)
            except SessionLostError:
                if attempt == MAX_BEGINS:
                    raise
        raise AssertionError("not reached")

    async def _run(self, source: Source, target: Target) -> SyncSummary:
        new, old = await _scan_both(source, target)
        options = self._options
        unread = {one.path for one in new.problems}
        # Where not all that is unread is named, nothing is known to be gone.
        delete = options.delete and b"" not in unread

        def plan_it() -> Plan:
            there = old.entries
            if delete:
                there = leave_out(there, new.patterns, exclude=options.exclude)
            return make_plan(
                new.entries,
                there,
                delete=delete,
                checksum=options.checksum,
                unread=unread,
            )

        plan = await aside(len(new.entries) + len(old.entries), plan_it)
        check_plan(plan, force=options.force)
        run = _Run(
            self._report, source, target, options=options, new=new, old=old, plan=plan
        )
        if options.dry_run:
            return run.show()
        return await run.do()


@runtime_checkable
class _Far(Protocol):
    """An end elsewhere, which needs to tell only what differs from what is here."""

    async def scan_like(self, near: Awaitable[Scan]) -> Scan: ...


async def _scan_both(source: Source, target: Target) -> Sequence[Scan]:
    """Look at both ends at the same time."""
    if isinstance(target, _Far):
        near = asyncio.ensure_future(source.scan())
        return await run_all([near, target.scan_like(near)])
    if isinstance(source, _Far):
        near = asyncio.ensure_future(target.scan())
        return await run_all([source.scan_like(near), near])
    return await run_all([source.scan(), target.scan()])


class _Run:
    """One attempt, from the plan on."""

    def __init__(
        self,
        report: Report,
        source: Source,
        target: Target,
        *,
        options: SyncOptions,
        new: Scan,
        old: Scan,
        plan: Plan,
    ) -> None:
        self._report = report
        self._options = options
        self._source = source
        self._target = target
        self._entries, self._groups = new.entries, new.outline
        self._exists = old.exists
        self._plan = plan
        planned = (*plan.folders, *plan.links, *plan.touched, *plan.files)
        paths = {one.path for one in planned}
        there = old.entries if paths else ()
        self._old = {one.path: one for one in there if one.path in paths}
        self._problems = [*new.problems, *_hindering(old)]
        self._problems += [Problem(path, text) for path, text in plan.refused]
        self._transfer = Transfer(
            source, target, meter=report.meter, done=self._say, there=self._old
        )
        self._count = 0
        report.meter.begin(len(plan.files), plan.size)

    def show(self) -> SyncSummary:
        """Say what would be done."""
        plan = self._plan
        self._report.say("-", plan.deleted)
        self._say((*plan.folders, *plan.links, *plan.touched, *plan.files))
        return self._report.finish(
            self._report.summary(
                self._problems,
                sent=len(plan.files),
                skipped=plan.unchanged,
                deleted=len(plan.deleted),
            )
        )

    async def do(self) -> SyncSummary:
        """Send what is needed, then change the tree."""
        plan = self._plan
        if plan.is_empty and self._exists:
            return self._end(TargetReport(), await self._digest())
        reserving = self._target.reserve(plan.size, len(plan.files))
        _, files = await run_all([reserving, self._expect(plan.files)])
        await self._transfer.run(files)
        await self._retry()
        preparing = self._target.prepare(
            folders=plan.folders,
            links=plan.links,
            touched=plan.touched,
            deleted=plan.deleted,
        )
        _, digest = await run_all([preparing, self._digest()])
        with self._report.held():
            report = await self._target.commit(digest=digest)
        return self._end(report, digest)

    def _end(self, report: TargetReport, digest: str) -> SyncSummary:
        plan = self._plan
        problems = [*self._problems, *report.problems]
        wrong = {one.path for one in problems}
        deleted = [one for one in plan.deleted if one not in wrong]
        self._report.say("-", deleted)
        others = (*plan.folders, *plan.links, *plan.touched)
        self._say([one for one in others if one.path not in wrong])
        return self._report.finish(
            self._report.summary(
                problems,
                sent=report.written,
                skipped=plan.unchanged,
                deleted=len(deleted),
                digest="" if problems else digest,
            )
        )

    # -- files

    async def _expect(self, entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
        """Tell the target which files come, and number them."""
        first = self._count
        self._count += len(entries)
        if entries:
            await self._target.expect(first, entries)
        return list(enumerate(entries, first))

    def _say(self, entries: Sequence[Entry]) -> None:
        """Tell of what is new, then of what is changed."""
        old = [(one, self._old.get(one.path)) for one in entries]
        self._report.say("+", [one.path for one, before in old if before is None])
        # A folder's new time only says that something in it has changed.
        changed = [
            one.path
            for one, before in old
            if before is not None and (before.kind, before.mode) != (FOLDER, one.mode)
        ]
        self._report.say("~", changed)

    async def _retry(self) -> None:
        """Look again at files that changed or went while they were read."""
        failed = self._transfer.failed
        for attempt in range(RETRIES):
            if not failed:
                return
            await asyncio.sleep(RETRY_AFTER * 3**attempt)
            scan = await self._source.scan()
            again = self._look_again(scan.entries, is_first=attempt == 0)
            if not again:
                break
            await self._transfer.run(await self._expect(again))
        self._problems += [problem for _, problem in failed.values()]

    def _look_again(self, entries: Sequence[Entry], *, is_first: bool) -> list[Entry]:
        """Give the files to try again; those that are gone need nothing more."""
        failed = self._transfer.failed
        found = {one.path: one for one in entries if one.path in failed}
        gone = failed.keys() - found.keys()
        again = {
            path: now
            for path, now in found.items()
            if now.kind == FILE and (is_first or now != failed[path][0])
        }
        if self._options.delete:
            self._plan.deleted += sorted(gone & self._old.keys())
        for path in (*gone, *again):
            del failed[path]
        self._groups = []
        kept = (one for one in self._entries if one.path not in gone)
        self._entries = [again.get(one.path, one) for one in kept]
        return list(again.values())

    async def _digest(self) -> str:
        """Name the tree's content; empty if that is not wanted, or not known."""
        if self._problems or not self._options.digest:
            return ""
        digests = self._transfer.digests
        groups = self._groups
        return await name_tree(self._source, self._entries, digests, groups=groups)


def _hindering(old: Scan) -> list[Problem]:
    """Give what is wrong in the target with things that could be synced.

    Pipes and sockets there are its own, and are no entries.
    """
    if not old.problems:
        return []
    entries = {one.path for one in old.entries}
    return [one for one in old.problems if one.path in entries]


@contextlib.asynccontextmanager
async def _closing(source: Source, target: Target) -> AsyncIterator[None]:
    """Close both ends, however it ends; what was not committed is undone."""
    try:
        yield
        _succeed(source, target)
    finally:
        closing = asyncio.gather(source.close(), target.close(), return_exceptions=True)
        await asyncio.shield(closing)


def _succeed(*ends: object) -> None:
    for end in ends:
        if hasattr(end, "is_success"):
            end.is_success = True
