"""The syncs under way on this worker: sessions that outlive their links."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from collections.abc import Callable

from mlepool.errors import WorkerError
from mlepool.files.base import SourceOptions, TargetOptions
from mlepool.worker.tree_session import GONE_AFTER, Ends, TreeSession

__all__ = ["Trees", "UnknownSessionError"]

logger = logging.getLogger("mlepool.worker")

IDLE_LIMIT = 600.0  # seconds without a link or a request: laptops sleep for a while
LINKED_LIMIT = 6 * 3600.0  # without a request, with a link: its other tree may be slow
TAKEOVER_AFTER = 2.0  # seconds without a link, after which others may have the tree
MAX_SESSIONS = 128  # each has a thread and open files; more wait for them to end,
ROOM_LIMIT = 600.0  # seconds: not for ever, as those may wait for more of their own


class UnknownSessionError(LookupError):
    """There is no such session (any more): the client begins anew."""


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
