"""One tree that a client reads or writes, over one link after another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from mlepool.errors import WorkerError
from mlepool.files.base import (
    Source,
    SourceOptions,
    Target,
    TargetOptions,
    TargetReport,
)
from mlepool.tree import Entry
from mlepool.worker.access.grants import Grant
from mlepool.worker.jail import Jail

__all__ = ["GONE_AFTER", "Ends", "TreeSession"]

T = TypeVar("T")

GONE_AFTER = 30.0  # seconds without a link, after which a sync does not count as such
MAX_STEPS = 256  # answers kept of a session; a client has fewer requests under way


class Ends(Protocol):
    """What makes the ends of this worker's trees."""

    async def resolve(self, root: bytes) -> bytes:
        """Give a root's real path; relative ones count from the worker's root."""

    def confined(self, cwd: Path, grant: Grant) -> Ends:
        """Give the ends of one client's trees, for one tree."""

    def jail(self, cwd: Path, grant: Grant) -> Jail:
        """Give the paths that a client's file commands may use."""

    def source(self, root: bytes, options: SourceOptions) -> Source:
        """Make the end that is read."""

    def target(
        self, root: bytes, options: TargetOptions, waiting: Callable[[str], None]
    ) -> Target:
        """Make the end that is written; ``waiting`` is told who else has the tree."""


@runtime_checkable
class _Staging(Protocol):
    """An end that can leave what has come to the next session of its tree."""

    async def leave(self) -> None: ...


class TreeSession:
    """One tree that a client reads or writes.

    Args:
        ends: Makes the tree.
        root: Its real path.
        options: Of a source, or of a target.

    Attributes:
        end: The tree.
        holder: Who else has it, and is waited for.
        pages: Its manifest, until the client has it.
        groups: The same where the client has most of it already: what it may lack.
        link: The client's present link; None while it has none.
        left: When its last link was lost.
        used: When it last asked for something; seconds, as the loop counts.
    """

    def __init__(
        self, ends: Ends, root: bytes, options: SourceOptions | TargetOptions
    ) -> None:
        self.root = root
        self.holder = ""
        self.end: Source | Target
        if isinstance(options, TargetOptions):
            self.end = ends.target(root, options, self._wait_for)
        else:
            self.end = ends.source(root, options)
        self.pages: list[bytes] = []
        self.groups: list[list[Entry]] = []
        self.link: object | None = None
        self.used = self.left = asyncio.get_running_loop().time()
        self._steps: dict[int, asyncio.Future[Any]] = {}
        self._commit: asyncio.Future[TargetReport] | None = None

    @property
    def is_target(self) -> bool:
        """True if it is written."""
        return hasattr(self.end, "commit")

    def forget_listing(self) -> None:
        """Let go of the manifest: the client has all of it."""
        self.pages.clear()
        self.groups.clear()

    def is_gone(self, now: float) -> bool:
        """Tell if it has had no link for so long that its client may be dead."""
        return self.link is None and now >= self.left + GONE_AFTER

    @property
    def is_busy(self) -> bool:
        """True while it does what was asked for."""
        return any(not one.done() for one in self._steps.values())

    def source(self) -> Source:
        """Give the end that is read.

        Raises:
            ValueError: If this one is written.
        """
        if self.is_target:
            raise ValueError("this tree is written, not read")
        return cast(Source, self.end)

    def target(self) -> Target:
        """Give the end that is written.

        Raises:
            ValueError: If this one is read.
        """
        if not self.is_target:
            raise ValueError("this tree is read, not written")
        return cast(Target, self.end)

    async def once(self, step: int, work: Callable[[], Awaitable[T]]) -> T:
        """Do something once: a request that is repeated gets the first one's answer.

        It is done to its end, whether the one who asks waits or not.

        Answers are kept for as long as the client may ask again: over a link they come
        in order, so that what was lost with one are the latest.

        Args:
            step: The client's number for it.
            work: Does it.

        Raises:
            WorkerError: If too much is under way.
        """
        known = self._steps.get(step)
        if known is None:
            known = asyncio.ensure_future(work())
            known.add_done_callback(_look)
            self._steps[step] = known
            self._forget()
        return cast(T, await asyncio.shield(known))

    async def commit(self) -> TargetReport:
        """Do what the target was told, to its end; once."""
        if self._commit is None:
            self._commit = asyncio.ensure_future(self.target().commit())
            self._commit.add_done_callback(_look)
        return await asyncio.shield(self._commit)

    async def close(self, *, is_left: bool = False) -> bool:
        """Let go of the tree; a commit that has begun comes to its end before.

        Args:
            is_left: Its client did not end it, and may come again: what has come of
                content stays for that.

        Returns:
            True if there was one, and all of it was done.
        """
        if self._commit is not None:
            await asyncio.wait([self._commit])
        elif is_left and isinstance(self.end, _Staging):
            await self.end.leave()
        await self.end.close()
        for one in self._steps.values():
            one.cancel()
        if self._commit is None or self._commit.cancelled():
            return False
        return self._commit.exception() is None

    def _wait_for(self, holder: str) -> None:
        self.holder = holder

    def _forget(self) -> None:
        while len(self._steps) > MAX_STEPS:
            oldest = next(iter(self._steps))
            if not self._steps[oldest].done():
                raise WorkerError(f"over {MAX_STEPS} requests of a sync are open")
            del self._steps[oldest]


def _look(future: asyncio.Future[Any]) -> None:
    """Have seen what failed: who asked may be gone."""
    if not future.cancelled():
        future.exception()
