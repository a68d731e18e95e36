"""Syncs: make one tree like another, whichever end is here and which on a worker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from mlepool.client.local import LocalJob
from mlepool.client.meters import Meter
from mlepool.client.remote_trees import SessionLostError
from mlepool.client.transfers import Transfer, run_all
from mlepool.errors import SyncIncompleteError
from mlepool.files.base import Chunk, Offer, Problem, Scan, Source, Target, TargetReport
from mlepool.files.chunks import SMALL, content_digest
from mlepool.tree import FILE, FOLDER, Entry, Plan, check_plan, make_plan, tree_digest
from mlepool.wire.values import SyncProblem, SyncSummary

__all__ = ["Ends", "Sync", "SyncOptions", "quoted"]

RETRIES = 3  # times that files are looked at again which change while they are read
RETRY_AFTER = 0.05  # seconds before the first of them; three times as long each time
MAX_BEGINS = 10  # a worker that is restarted all the time is given up after so many
ASK_FILES = 500  # unchanged files whose digests are asked for at a time

Ends = Callable[[], tuple[Source, Target]]


class SyncOptions(msgspec.Struct, frozen=True):
    """How to sync.

    Attributes:
        delete: What is not in the source is deleted.
        checksum: Compare content, also of files with the same size and mtime.
        dry_run: Say what would be done, and do nothing.
        force: Also do what looks like a mistake.
        digest: Give the tree a name by its content.
    """

    delete: bool = False
    checksum: bool = False
    dry_run: bool = False
    force: bool = False
    digest: bool = True


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
        self._began = time.monotonic()
        self._said: set[bytes] = set()
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
        new, old = await run_all([source.scan(), target.scan()])
        options = self._options
        plan = make_plan(
            new.entries,
            old.entries,
            delete=options.delete,
            checksum=options.checksum,
            unread={one.path for one in new.problems},
        )
        check_plan(plan, force=options.force)
        run = _Run(self, source, target, new=new, old=old, plan=plan)
        if options.dry_run:
            return run.show()
        return await run.do()

    # -- what runs need

    @property
    def options(self) -> SyncOptions:
        """How to sync."""
        return self._options

    def say(self, sign: str, paths: Iterable[bytes]) -> None:
        """Tell of what was done, or will be; what was told before is not told again."""
        fresh = [one for one in paths if one not in self._said]
        self._said.update(fresh)
        self._job.say(f"{sign} {quoted(one)}" for one in fresh)

    def summary(self, problems: Iterable[Problem], **facts: Any) -> SyncSummary:
        """Sum up."""
        found = tuple(SyncProblem(os.fsdecode(one.path), one.text) for one in problems)
        return SyncSummary(
            bytes_total=self.meter.bytes_total,
            bytes_sent=self.meter.sent,
            seconds=time.monotonic() - self._began,
            problems=found,
            **facts,
        )

    def finish(self, summary: SyncSummary) -> SyncSummary:
        """Give the summary, or raise what it says.

        Raises:
            SyncIncompleteError: If there were problems.
        """
        self._job.value = summary
        if summary.problems:
            raise SyncIncompleteError(summary)
        return summary

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Run to the end, within it."""
        return self._job.held()


class _Run:
    """One attempt, from the plan on."""

    def __init__(
        self,
        sync: Sync,
        source: Source,
        target: Target,
        *,
        new: Scan,
        old: Scan,
        plan: Plan,
    ) -> None:
        self._sync = sync
        self._source = source
        self._target = target
        self._new = new
        self._plan = plan
        self._old = {one.path: one for one in old.entries}
        self._problems = [*new.problems, *old.problems]
        self._problems += [Problem(path, text) for path, text in plan.refused]
        self._transfer = Transfer(source, target, meter=sync.meter, done=self._arrived)
        self._count = 0
        sync.meter.begin(len(plan.files), plan.size)

    def show(self) -> SyncSummary:
        """Say what would be done."""
        plan = self._plan
        self._sync.say("-", plan.deleted)
        for entry in (*plan.folders, *plan.links, *plan.touched, *plan.files):
            self._say(entry)
        return self._sync.finish(
            self._sync.summary(
                self._problems,
                sent=len(plan.files),
                skipped=plan.unchanged,
                deleted=len(plan.deleted),
            )
        )

    async def do(self) -> SyncSummary:
        """Send what is needed, then change the tree."""
        plan = self._plan
        await self._target.reserve(plan.size, len(plan.files))
        files = await self._expect(plan.files)
        await self._transfer.run(files)
        await self._retry()
        await self._target.prepare(
            folders=plan.folders,
            links=plan.links,
            touched=plan.touched,
            deleted=plan.deleted,
        )
        digest = await self._digest()
        with self._sync.held():
            report = await self._target.commit()
        return self._end(report, digest)

    def _end(self, report: TargetReport, digest: str) -> SyncSummary:
        plan = self._plan
        problems = [*self._problems, *report.problems]
        wrong = {one.path for one in problems}
        self._sync.say("-", [one for one in plan.deleted if one not in wrong])
        for entry in (*plan.folders, *plan.links, *plan.touched):
            if entry.path not in wrong:
                self._say(entry)
        return self._sync.finish(
            self._sync.summary(
                problems,
                sent=report.written,
                skipped=plan.unchanged,
                deleted=report.deleted,
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

    def _arrived(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._say(entry)

    def _say(self, entry: Entry) -> None:
        old = self._old.get(entry.path)
        if old is None:
            self._sync.say("+", [entry.path])
        elif (old.kind, old.mode) != (FOLDER, entry.mode):
            # A folder's new time only says that something in it has changed.
            self._sync.say("~", [entry.path])

    async def _retry(self) -> None:
        """Look again at files that changed or went while they were read."""
        failed = self._transfer.failed
        for attempt in range(RETRIES):
            if not failed:
                return
            await asyncio.sleep(RETRY_AFTER * 3**attempt)
            self._new = await self._source.scan()
            again = self._look_again(is_first=attempt == 0)
            if not again:
                break
            await self._transfer.run(await self._expect(again))
        self._problems += [problem for _, problem in failed.values()]

    def _look_again(self, *, is_first: bool) -> list[Entry]:
        """Give the files to try again; those that are gone need nothing more."""
        failed = self._transfer.failed
        found = {one.path: one for one in self._new.entries if one.path in failed}
        again = []
        for path, (entry, _) in list(failed.items()):
            now = found.get(path)
            if now is None:
                del failed[path]
                if self._sync.options.delete and path in self._old:
                    self._plan.deleted.append(path)
            elif now.kind == FILE and (is_first or now != entry):
                del failed[path]
                again.append(now)
        return again

    async def _digest(self) -> str:
        """Name the tree's content; empty if that is not wanted, or not known."""
        if self._problems or not self._sync.options.digest:
            return ""
        digests = self._transfer.digests
        entries = self._new.entries
        unknown = [one for one in entries if one.kind == FILE]
        unknown = [one for one in unknown if one.path not in digests]
        small = [one for one in unknown if one.size <= SMALL]
        for at in range(0, len(small), ASK_FILES):
            some = small[at : at + ASK_FILES]
            answers = await self._source.describe_many(list(enumerate(some)))
            for entry, answer in zip(some, answers, strict=True):
                if isinstance(answer, Problem):
                    return ""
                digests[entry.path] = content_digest(answer.chunks)
        for entry in unknown:
            if entry.size > SMALL and not await self._describe(entry):
                return ""
        return tree_digest(entries, digests)

    async def _describe(self, entry: Entry) -> bool:
        """Find out a large file's digest; False if it can't be told."""
        chunks: list[Chunk] = []
        offset = 0
        while True:
            offer = await self._source.describe(entry, 0, offset=offset)
            if not isinstance(offer, Offer):
                return False
            chunks += offer.chunks
            offset = offer.offset + sum(one.length for one in offer.chunks)
            if offer.is_last:
                break
        self._transfer.digests[entry.path] = content_digest(chunks)
        return True


def quoted(path: bytes) -> str:
    """Give a path for people: as it is if it can be printed, else in quotes."""
    text = os.fsdecode(path)
    return text if text.isprintable() and text[:1] not in "'\"" else repr(text)


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
