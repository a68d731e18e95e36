"""The end of a sync that is written, on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mlepool.files.aside import log_failure
from mlepool.files.base import Offer, Piece, Scan, TargetOptions, TargetReport
from mlepool.files.descent import check_path
from mlepool.files.store import Store
from mlepool.files.writer import TreeWriter
from mlepool.tree import Entry

__all__ = ["LocalTarget"]

T = TypeVar("T")

POLL, POLL_LIMIT = 0.01, 0.2  # seconds between looks at a tree that others have


class LocalTarget:
    """Writes a tree; a :class:`~mlepool.files.base.Target`.

    Args:
        root: The tree's root; made when it is needed, with its parents.
        options: How to write it.
        state: Our folder for locks, for what is staged and for what was deleted; of
            these, what has to be on the tree's file system is beside the tree if the
            state folder is not.
        store: What is known of content on this machine.
        allowed: Folders that the root must be in, or be; none: anywhere.
        own: Folders of ours that are no part of a tree that they are in, as the state
            folder.
        closed: Folders that nothing is written in.
        waiting: Called with who has the tree, when it has to be waited for.
    """

    def __init__(
        self,
        root: str | bytes | Path,
        options: TargetOptions,
        *,
        state: Path,
        store: Store | None = None,
        allowed: Sequence[str | bytes | Path] = (),
        own: Sequence[Path] = (),
        closed: Sequence[Path] = (),
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        self._waiting = waiting
        self._writer = TreeWriter(
            os.fsencode(root),
            options,
            state=state,
            store=store,
            allowed=[os.fsencode(one) for one in allowed],
            own=own,
            closed=closed,
        )
        self._thread = ThreadPoolExecutor(1, "mlepool-target")
        self._is_closed = False

    @property
    def wants_packed(self) -> bool:
        """True: what the content comes over is the source's to know."""
        return True

    async def scan(self) -> Scan:
        """Take the tree for ourselves, waiting for others, and see what is there."""
        known, pause = "", POLL
        while (holder := await self._run(self._writer.take)) is not None:
            if self._waiting is not None and holder != known:
                self._waiting(holder)
            known = holder
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_LIMIT)
        return await self._run(self._writer.scan)

    async def reserve(self, size: int, count: int) -> None:
        """Check that so many bytes and files can be taken."""
        await self._run(lambda: self._writer.reserve(size, count))

    async def expect(self, first: int, entries: Sequence[Entry]) -> None:
        """Tell which files come."""
        await self._run(lambda: self._writer.expect(first, entries))

    async def offer(self, offers: Sequence[Offer]) -> list[list[int]]:
        """Tell what files consist of; gives what has to be sent."""
        return await self._run(lambda: self._writer.stage().offer(offers))

    async def write(
        self, pieces: Sequence[Piece], *, offers: Sequence[Offer] = ()
    ) -> None:
        """Take bytes of missing chunks, or of files that were not offered."""
        await self._run(lambda: self._writer.stage().write(pieces, offers=offers))

    async def drop(self, numbers: Sequence[int]) -> None:
        """Forget files that won't come."""
        await self._run(lambda: self._writer.stage().drop(numbers))

    async def prepare(
        self,
        *,
        folders: Sequence[Entry] = (),
        links: Sequence[Entry] = (),
        touched: Sequence[Entry] = (),
        deleted: Sequence[bytes] = (),
    ) -> None:
        """Tell what else is to be done; several calls add up."""
        for entry in (*folders, *links, *touched):
            check_path(entry.path)
        for path in deleted:
            check_path(path)
        work = self._writer.work
        work.folders |= {one.path: one for one in folders}
        work.links |= {one.path: one for one in links}
        work.touched |= {one.path: one for one in touched}
        work.deleted |= dict.fromkeys(deleted)

    async def commit(self, *, digest: str = "") -> TargetReport:
        """Do it all; again gives the same report."""
        return await self._run(self._writer.commit)

    async def leave(self) -> None:
        """Close it, and leave what has come to who syncs into the tree next."""
        if not self._is_closed:
            await self._run(self._writer.leave)
            await self.close()

    async def close(self) -> None:
        """Let go of the tree, and of what was not committed. Twice is fine.

        Others may have it then, while the store is told what is in it.
        """
        if not self._is_closed:
            self._is_closed = True
            try:
                await asyncio.shield(self._run(self._writer.clear))
            finally:
                last = self._thread.submit(self._writer.close)
                last.add_done_callback(log_failure)
                self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
