"""One sync at a time into a tree, or into a tree and one inside it.

A session notes its tree in a file of its own and holds a lock on that file: what a dead
one has left holds nobody up. The same works within a process and across processes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlepool.files.descent import is_inside

try:
    import fcntl
except ImportError:  # Windows, where no tree is written
    fcntl = None  # type: ignore[assignment]

__all__ = ["TreeLock", "lock_at_once", "lock_file"]

GUARD = "guard"
SUFFIX = ".lock"


class _Note(msgspec.Struct, frozen=True, array_like=True):
    """What a session says of itself.

    Attributes:
        root: The real path of its tree.
        owner: Who syncs, for people.
    """

    root: bytes
    owner: str


def lock_file(fd: int) -> None:
    """Lock an open file or folder, waiting for whoever holds it."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def lock_at_once(fd: int) -> bool:
    """Lock an open file or folder; False if somebody holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class TreeLock:
    """The right to write a tree.

    Args:
        folder: Where sessions note themselves, made if it is not there: one for all
            that are to know of each other.
        root: The real path of the tree.
        owner: Who syncs, for people.
    """

    def __init__(self, folder: Path, root: bytes, owner: str) -> None:
        self._folder = folder
        self._note = _Note(root, owner)
        self._path: Path | None = None
        self._fd = -1

    def take(self) -> str | None:
        """Try to take the tree.

        Returns:
            None if it is ours now; else who has it, or one that overlaps it.
        """
        self._folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        with self._guard():
            for path in self._folder.glob(f"*{SUFFIX}"):
                other = _read_live(path)
                if other is not None and self._overlaps(other.root):
                    return other.owner or "another sync"
            self._write()
        return None

    def release(self) -> None:
        """Let others have the tree; twice is fine."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _overlaps(self, other: bytes) -> bool:
        return is_inside(self._note.root, other) or is_inside(other, self._note.root)

    def _write(self) -> None:
        self._path = self._folder / f"{secrets.token_hex(8)}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        lock_file(self._fd)
        os.write(self._fd, msgspec.msgpack.encode(self._note))

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Be the only one who looks and notes, for a moment."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._folder / GUARD, flags, 0o600)
        try:
            lock_file(fd)
            yield
        finally:
            os.close(fd)


def _read_live(path: Path) -> _Note | None:
    """Read what a session notes; None, and it is removed, if nobody holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if lock_at_once(fd):
            path.unlink(missing_ok=True)
            return None
        return msgspec.msgpack.decode(os.read(fd, os.fstat(fd).st_size), type=_Note)
    except msgspec.DecodeError:
        return None
    finally:
        os.close(fd)
