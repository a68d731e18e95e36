"""Writes a tree, step by step; blocking, for a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path

from blake3 import blake3
from msgspec import structs

from mlepool.files.base import Scan, TargetOptions, TargetReport
from mlepool.files.chunks import SMALL
from mlepool.files.commit import Commit, Work
from mlepool.files.descent import (
    Root,
    check_path,
    locate_root,
    make_real,
    open_nearest,
    paths_in,
    places_of,
)
from mlepool.files.leftovers import Place, StagedChunk, find_left
from mlepool.files.locks import TreeLock
from mlepool.files.memory import TreeMemory
from mlepool.files.scan import scan_tree
from mlepool.files.stage import Stage
from mlepool.files.store import Store
from mlepool.files.trash import Trash
from mlepool.files.untold import Untold
from mlepool.files.versions import OldVersion
from mlepool.files.yard import StageFolder, Yard, open_yard
from mlepool.tree import FILE, Entry, make_outline, order_of

__all__ = ["TreeWriter"]

LOCKS = "locks"  # in the state folder
KEEP_FREE = 64 * 1024 * 1024  # bytes of a disk that are left to others, or a part:
KEEP_PART = 100  # one of so many
TRIES = 5  # to stage where others come and go
FILE_COST = 4096  # bytes that a file may take beside its content, and round it up

logger = logging.getLogger("mlepool.files")


class TreeWriter:
    """The work of a target; see :class:`~mlepool.files.target.LocalTarget`."""

    def __init__(
        self,
        root: bytes,
        options: TargetOptions,
        *,
        state: Path,
        store: Store | None,
        allowed: Sequence[bytes],
        own: Sequence[Path],
        closed: Sequence[Path] = (),
    ) -> None:
        self._asked = root
        self._options = options
        self._state = state
        self._store = store
        self._allowed = allowed
        self._own = own
        self._closed = closed
        self._real = b""
        self._root: Root | None = None
        self._lock: TreeLock | None = None
        self._yard: Yard | None = None
        self._folders: list[StageFolder] = []
        self._left: dict[bytes, StagedChunk] = {}
        self._stage: Stage | None = None
        self._entries: list[Entry] = []
        self._there: dict[bytes, Entry] | None = None
        self._report: TargetReport | None = None
        self._commit: Commit | None = None  # what the store is to be told of
        self._is_syncing = False
        self._untold: Untold | None = None
        self.work = Work()

    def take(self) -> str | None:
        """Take the tree; None if it is ours now, else who has it."""
        if self._lock is not None:
            return None
        self._real = locate_root(self._asked, self._allowed, closed=self._closed)
        folder = self._state / LOCKS
        lock = TreeLock(folder, self._real, self._options.owner)
        holder = lock.take()
        if holder is None:
            self._lock = lock
        return holder

    def scan(self) -> Scan:
        """See what is there."""
        if self._root is not None:
            self._root.close()
            self._root = None
        fd, missing = open_nearest(self._real)
        root = Root(fd, closed=places_of(self._closed))
        if missing:
            _check_writable(root, self._real)
            root.close()
            return Scan([], exists=False)
        self._root = root
        _check_writable(root, self._real)
        options = self._options
        if self._store is not None and not self._is_syncing:
            self._is_syncing = True
            self._store.syncs.begin()
        found = scan_tree(
            fd,
            exclude=options.exclude,
            ignore_files=options.ignore_files,
            own=places_of((self._state, *self._own)),
        )
        self._entries, self._there = found.entries, None
        return structs.replace(found, outline=make_outline(found.entries))

    def reserve(self, size: int, count: int) -> None:
        """Check that there is room; what dead sessions have left makes way for it."""
        disk = os.fstatvfs(self._open_yard().root.fd)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        needed = size + count * FILE_COST + min(KEEP_FREE, total // KEEP_PART)
        name = os.fsdecode(self._real)
        if size and needed > free:
            free = self._remove_left()
        if size and needed > free:
            text = f"{needed:,} bytes are needed on the disk, {free:,} are free"
            raise OSError(errno.ENOSPC, text, name)
        if disk.f_files and count > disk.f_favail:
            text = f"{count:,} files are too many for the disk: {disk.f_favail:,} fit"
            raise OSError(errno.ENOSPC, text, name)

    def _remove_left(self) -> int:
        """Remove what dead sessions have left; give the bytes that are free then."""
        with contextlib.suppress(OSError):  # there may be no room for a folder of ours
            self.stage()
            while len(self._folders) > 1:
                self._folders.pop().remove()
        self._left = {}
        disk = os.fstatvfs(self._open_yard().root.fd)
        return disk.f_bavail * disk.f_frsize

    def expect(self, first: int, entries: Sequence[Entry]) -> None:
        """Take notice of files that come."""
        for entry in entries:
            check_path(entry.path)
        self.stage().expect(first, entries)

    def stage(self) -> Stage:
        """Give what puts files together, begun when it is needed."""
        if self._stage is None:
            mine, left = self._begin()
            self._folders = [mine, *left]
            self._left = find_left(left)
            find, open_old = self._find, self._open_old
            self._stage = Stage(mine.fd, find=find, open_old=open_old)
        return self._stage

    def commit(self) -> TargetReport:
        """Do it all, once."""
        if self._report is None:
            stage = self.stage()
            files = list(stage.results())
            trash = Trash(self._open_yard(), self._real)
            commit = Commit(
                self._open_root(),
                self._known(),
                stage=self._folders[0].fd,
                trash=trash,
                keep=self._memory().keep,
                closed=paths_in(self._real, self._closed),
            )
            commit.run(self.work, files)
            self._report = TargetReport(
                written=len(commit.placed),
                reused=stage.reused,
                deleted=sum(self._count(path) for path, _ in commit.trashed),
                problems=commit.problems,
            )
            self._commit = commit
        return self._report

    def leave(self) -> None:
        """Leave what is staged to the next session of the tree."""
        with contextlib.ExitStack() as stack:
            for folder in self._folders:
                stack.callback(folder.leave)
            if self._stage is not None:
                stack.callback(self._stage.close)
        self._folders, self._left, self._stage = [], {}, None

    def clear(self) -> None:
        """Let others have the tree; what was not committed is removed.

        The store is to be told by :meth:`close` what there is now.
        """
        with contextlib.ExitStack() as stack:
            if self._lock is not None:
                stack.callback(self._lock.release)
            if self._yard is not None:
                stack.callback(self._yard.close)
            for folder in self._folders:
                stack.callback(folder.remove)
            if self._stage is not None:
                stack.callback(self._stage.close)
            stack.callback(self._end_sync)
            if self._store is not None and self._commit is not None:
                self._untold = self._memory().tell(self._commit)
                self._store.moving.begin()
        self._folders, self._left = [], {}
        self._stage = self._yard = self._lock = None

    def close(self) -> None:
        """Tell the store what there is now, and let go of the tree's root.

        Others may have the tree by then: what they change in it looks changed.
        """
        with contextlib.ExitStack() as stack:
            if self._lock is not None:  # taken by who was still waiting for it
                stack.callback(self._lock.release)
            stack.callback(self._end_sync)
            if self._root is not None:
                stack.callback(self._root.close)
            if self._commit is not None and self._root is not None:
                self._note(self._root, self._commit)
        self._root = self._lock = self._commit = None

    def _end_sync(self) -> None:
        if self._store is not None and self._is_syncing:
            self._is_syncing = False
            self._store.syncs.end()

    def _note(self, root: Root, commit: Commit) -> None:
        if self._store is not None and self._untold is not None:
            try:
                self._memory().note_moves(commit)
            finally:
                self._store.moving.end()
            self._memory().note(root, self._untold)

    def _begin(self) -> tuple[StageFolder, list[StageFolder]]:
        """Begin to stage; another session may just remove an empty yard."""
        tree = blake3(self._real).hexdigest()[:16].encode()
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                return self._open_yard().begin(tree)
            self._open_yard().close()
            self._yard = None
        return self._open_yard().begin(tree)

    def _open_yard(self) -> Yard:
        if self._yard is None:
            allowed = [os.path.realpath(one) for one in self._allowed]
            state = os.path.realpath(os.fsencode(self._state))
            self._yard = open_yard(self._real, state, allowed)
            Trash(self._yard, self._real).purge(time.time())
        return self._yard

    def _open_root(self) -> Root:
        """Give the tree's root, made if it was not there.

        Raises:
            OSError: If it is another by now.
        """
        fd = make_real(self._real)
        if self._root is None:
            self._root = Root(fd, closed=places_of(self._closed))
            return self._root
        now, then = os.fstat(fd), os.fstat(self._root.fd)
        os.close(fd)
        if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            text = "another folder was put in its place meanwhile"
            raise OSError(errno.ESTALE, text, os.fsdecode(self._real))
        return self._root

    def _known(self) -> Mapping[bytes, Entry]:
        """Give what the scan has found, by path."""
        if self._there is None:
            self._there = {one.path: one for one in self._entries}
        return self._there

    def _count(self, path: bytes) -> int:
        """Give how many entries there were at a path and below."""
        begin = bisect_left(self._entries, order_of(path), key=_order)
        return bisect_left(self._entries, order_of(path) + b"\1", key=_order) - begin

    def _find(self, digests: Sequence[bytes]) -> Mapping[bytes, Place]:
        """Find chunks: in what dead sessions left, and in what the store knows."""
        found: dict[bytes, Place] = {**self._memory().find(digests)}
        if self._left:
            found |= {one: self._left[one] for one in digests if one in self._left}
        return found

    def _memory(self) -> TreeMemory:
        return TreeMemory(self._store, self._real)

    def _open_old(self, entry: Entry) -> OldVersion | None:
        """Open the version in the tree, if it may be the same, or have parts of it."""
        known = self._known().get(entry.path)
        if known is None or known.kind != FILE or self._root is None or not known.size:
            return None
        if known.size != entry.size and min(known.size, entry.size) <= SMALL:
            return None
        try:
            fd = self._root.open_file(entry.path)
        except OSError:
            return None
        return OldVersion(fd, self._memory().chunks_of(entry.path, os.fstat(fd)))


def _order(entry: Entry) -> bytes:
    return order_of(entry.path)


def _check_writable(root: Root, real: bytes) -> None:
    """Check that we may write in a folder, or may give ourselves the right to.

    Raises:
        PermissionError: If not.
        OSError: EROFS, if nobody may.
    """
    name = os.fsdecode(real)
    if os.fstatvfs(root.fd).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
    if os.access(".", os.W_OK | os.X_OK, dir_fd=root.fd, effective_ids=True):
        return
    owner = os.fstat(root.fd).st_uid
    if owner != os.geteuid():
        text = "this account may not write there"
        raise PermissionError(errno.EACCES, text, name)
