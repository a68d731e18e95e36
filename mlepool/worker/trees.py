"""The syncs under way on this worker: sessions that outlive their links."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
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

__all__ = ["Ends", "TreeSession", "Trees", "UnknownSessionError"]

logger = logging.getLogger("mlepool.worker")

T = TypeVar("T")

IDLE_LIMIT = 600.0  # seconds without a link or a request: laptops sleep for a while
LINKED_LIMIT = 6 * 3600.0  # without a request, with a link: its other tree may be slow
GONE_AFTER = 30.0  # seconds without a link, after which a sync does not count as such
TAKEOVER_AFTER = 2.0  # seconds without a link, after which others may have the tree
MAX_SESSIONS = 128  # each has a thread and open files; more wait for them to end,
ROOM_LIMIT = 600.0  # seconds: not for ever, as those may wait for more of their own
MAX_STEPS = 256  # answers kept of a session; a client has fewer requests under way


class UnknownSessionError(LookupError):
    """There is no such session (any more): the client begins anew."""


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


class Trees:
    """The sessions of one worker, by the ids that clients have made.

    Args:
        ends: Makes the trees.
        changed: Called when :attr:`status` has changed.

    Attributes:
        ends: As given.
        status: ``"idle"``, ``"syncing"``, or how the last sync ended: ``"success"`` or
            ``"error"``.
    """

    def __init__(self, ends: Ends, *, changed: Callable[[], None]) -> None:
        self.status = "idle"
        self.ends = ends
        self._changed = changed
        self._sessions: dict[str, TreeSession] = {}
        self._opening: dict[str, asyncio.Event] = {}
        self._room = asyncio.Event()  # another one each time that a session ends
        self._closing: set[asyncio.Task[None]] = set()
        self._ending: set[TreeSession] = set()
        self._lost: weakref.WeakSet[object] = weakref.WeakSet()  # links
        self._last = ""

    async def open(
        self,
        session_id: str,
        root: bytes,
        options: SourceOptions | TargetOptions,
        *,
        ends: Ends | None = None,
    ) -> None:
        """Begin a session; nothing if it has begun.

        Args:
            session_id: The client's id for it.
            root: The tree, as the client calls it.
            options: Of a source, or of a target.
            ends: Makes the tree; by default as all are made.

        Raises:
            ValueError: If the root can't be a path.
            PermissionError: If the tree may not be there.
            UnknownSessionError: If it was ended before it had begun.
            WorkerError: If there are too many sessions, and none ends for long.
        """
        ends = ends or self.ends
        opening = self._opening.setdefault(session_id, asyncio.Event())
        try:
            real = await ends.resolve(root)
            await self._wait_for_room(session_id)
            if session_id in self._sessions:
                return
            self._check_wanted(session_id)
            self._sessions[session_id] = TreeSession(ends, real, options)
        finally:
            opening.set()
            self._opening.pop(session_id, None)
        self._watch(session_id)
        self._tell()

    async def ready(self, session_id: str) -> None:
        """Wait until a session that is being opened is open, or can't be."""
        if session_id in self._opening:
            await self._opening[session_id].wait()

    def find(self, session_id: str, link: object) -> TreeSession:
        """Find a session, for a request that came over a link.

        Raises:
            UnknownSessionError: If there is none (any more).
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSessionError(f"this worker has no sync {session_id!r}")
        loop = asyncio.get_running_loop()
        session.used = loop.time()
        if session.link is not link:
            if link not in self._lost:
                session.link = link
            elif session.link is None:  # what it has asked for is done all the same
                session.left = loop.time()
                loop.call_later(GONE_AFTER, self._tell)
            self._take_over()
            self._tell()
        return session

    def link_gone(self, link: object) -> None:
        """Note that a link is gone; its sessions go on."""
        loop = asyncio.get_running_loop()
        self._lost.add(link)
        for session in self._sessions.values():
            if session.link is link:
                session.link, session.left = None, loop.time()
                loop.call_later(GONE_AFTER, self._tell)
        self._take_over()

    async def end(
        self, session_id: str, *, is_success: bool, is_left: bool = False
    ) -> None:
        """End a session, also one that is just being opened; none is fine.

        Args:
            session_id: Which.
            is_success: How it went.
            is_left: As for :meth:`TreeSession.close`.
        """
        opening = self._opening.pop(session_id, None)
        if opening is not None:
            opening.set()
        session = self._sessions.pop(session_id, None)
        self._room.set()
        self._room = asyncio.Event()
        if session is None:
            return
        self._ending.add(session)
        self._last = "success" if is_success else "error"
        try:
            if await session.close(is_left=is_left):
                self._last = "success"
        finally:
            self._ending.discard(session)
            self._tell()

    async def close(self) -> None:
        """End all sessions."""
        ends = [
            self.end(one, is_success=False, is_left=True)
            for one in tuple(self._sessions)
        ]
        await asyncio.gather(*ends, *self._closing, return_exceptions=True)

    # -- within

    async def _wait_for_room(self, session_id: str) -> None:
        """Wait while there are too many sessions, and this one is wanted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_LIMIT):
                while len(self._sessions) >= MAX_SESSIONS:
                    if session_id not in self._opening:
                        return
                    await self._room.wait()

    def _check_wanted(self, session_id: str) -> None:
        """Check that a session may begin."""
        if session_id not in self._opening:
            raise UnknownSessionError(f"the sync {session_id!r} was ended")
        if len(self._sessions) >= MAX_SESSIONS:
            raise WorkerError(f"over {MAX_SESSIONS} syncs are under way")

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        sessions = self._sessions.values()
        if self._ending or any(not one.is_gone(now) for one in sessions):
            status = "syncing"
        else:
            status = "error" if sessions else self._last or "idle"
        if status != self.status:
            self.status = status
            self._changed()

    def _watch(self, session_id: str) -> None:
        """End a session when nobody has used it for long; look now and then."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        loop = asyncio.get_running_loop()
        if session.link is not None and session.is_busy:
            session.used = loop.time()
        limit = IDLE_LIMIT if session.link is None else LINKED_LIMIT
        if loop.time() >= max(session.used, session.left) + limit:
            self._drop(session_id, f"it was idle for {limit:g} s")
        else:
            loop.call_later(IDLE_LIMIT / 10, self._watch, session_id)

    def _take_over(self) -> None:
        """End sessions whose clients are gone, where another wants the same tree."""
        loop = asyncio.get_running_loop()
        wanted = [one for one in self._sessions.values() if one.is_target and one.link]
        for session_id, session in tuple(self._sessions.items()):
            if session.link is not None or not session.is_target:
                continue
            if not any(_overlap(session.root, one.root) for one in wanted):
                continue
            if loop.time() >= session.left + TAKEOVER_AFTER:
                self._drop(session_id, "its client is gone, another syncs there")
            else:
                loop.call_at(session.left + TAKEOVER_AFTER, self._take_over)

    def _drop(self, session_id: str, cause: str) -> None:
        logger.warning("ended the sync %s: %s", session_id, cause)
        task = asyncio.get_running_loop().create_task(
            self.end(session_id, is_success=False, is_left=True)
        )
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _overlap(one: bytes, other: bytes) -> bool:
    one, other = os.path.join(one, b""), os.path.join(other, b"")
    return one.startswith(other) or other.startswith(one)


def _look(future: asyncio.Future[Any]) -> None:
    """Have seen what failed: who asked may be gone."""
    if not future.cancelled():
        future.exception()
