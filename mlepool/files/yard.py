"""Our own folder on a tree's file system: what is staged there, and what was deleted.

Files can be renamed into a tree only from its own file system. So this is the state
folder where that is on it, else a hidden folder beside the tree. Only where nothing
beside the tree can be written (it is a mount's top, or all that is allowed) is it a
hidden folder at the tree's top, which scans leave out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence

from mlepool.files.descent import LIST_FLAGS, Root, is_inside, make_real, open_nearest
from mlepool.files.locks import lock_at_once, lock_file
from mlepool.files.removal import remove_tree

__all__ = ["StageFolder", "Yard", "is_yard", "open_yard"]

STAGE = b"stage"
PREFIX = b".mlepool-"  # and the account's number: others have hidden folders of theirs
SHARED = stat.S_IWGRP | stat.S_IWOTH
LEFT_FOR = 24 * 3600.0  # seconds: what a dead session has staged is used again so long


def is_yard(name: bytes) -> bool:
    """Tell if something has the name of a hidden folder of ours, of any account."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).isdigit()


class StageFolder:
    """A session's folder of files on their way; locked, so that it is known to live.

    Attributes:
        fd: Its descriptor, which holds the lock.
    """

    def __init__(self, stage: int, name: bytes, fd: int) -> None:
        self._stage = stage
        self._name = name
        self.fd = fd

    def leave(self) -> None:
        """Leave it to the next session of its tree, as if this one had died."""
        os.close(self.fd)

    def remove(self) -> None:
        """Remove it with all that is in it, before its yard is closed."""
        with contextlib.suppress(FileNotFoundError):
            remove_tree(self._stage, self._name)
        os.close(self.fd)


class Yard:
    """Our own folder on a file system.

    Args:
        fd: Its descriptor; closed by :meth:`close`.
        path: Its real path.
        above: The descriptor of the folder that it is in, if it is to be removed when
            there is nothing in it; closed likewise.
    """

    def __init__(self, fd: int, path: bytes, *, above: int | None = None) -> None:
        self.root = Root(fd)
        self.path = path
        self._above = above
        self._stage = -1

    def begin(self, tree: bytes) -> tuple[StageFolder, list[StageFolder]]:
        """Make a folder for a session.

        Args:
            tree: Names the tree, in few bytes.

        Returns:
            It, and those that dead sessions of the same tree have left.

        Raises:
            FileNotFoundError: If its last user has just removed it: open it anew.
        """
        self._stage = os.dup(self.root.make_folders(STAGE))
        with self._guard() as names:
            left = [one for name in names if (one := self._take_left(name, tree))]
            name = b"%b-%b" % (tree, secrets.token_hex(8).encode())
            os.mkdir(name, stat.S_IRWXU, dir_fd=self._stage)
            mine = self._take(name)
        if mine is None:
            raise BlockingIOError(errno.EAGAIN, "somebody has locked a new folder")
        return mine, left

    def close(self) -> None:
        """Close it; twice is fine."""
        if self._stage >= 0:
            os.close(self._stage)
            self._stage = -1
        if self._above is not None:
            with contextlib.suppress(OSError):  # others stage there, or there is trash
                os.rmdir(STAGE, dir_fd=self.root.fd)
                os.rmdir(os.path.basename(self.path), dir_fd=self._above)
            os.close(self._above)
            self._above = None
        self.root.close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[list[bytes]]:
        """Be alone: a folder that is just made is not locked yet, and looks dead.

        Yields:
            The names of all sessions' folders.
        """
        fd = os.open(b".", LIST_FLAGS, dir_fd=self._stage)
        try:
            lock_file(fd)
            yield [os.fsencode(one) for one in os.listdir(fd)]
        finally:
            os.close(fd)

    def _take_left(self, name: bytes, tree: bytes) -> StageFolder | None:
        """Take a dead session's folder: for use, or to remove it, if it is old."""
        is_mine = name.startswith(tree + b"-")
        try:
            seen = os.stat(name, dir_fd=self._stage, follow_symlinks=False)
            if not is_mine and time.time() - seen.st_mtime < LEFT_FOR:
                return None
            found = self._take(name)
        except FileNotFoundError:  # its session has just ended
            return None
        if found is not None and not is_mine:
            found.remove()
            return None
        return found

    def _take(self, name: bytes) -> StageFolder | None:
        fd = os.open(name, LIST_FLAGS, dir_fd=self._stage)
        if lock_at_once(fd):
            return StageFolder(self._stage, name, fd)
        os.close(fd)
        return None


def open_yard(real: bytes, state: bytes, allowed: Sequence[bytes] = ()) -> Yard:
    """Open our folder on the file system of a tree, made if it is not there.

    Args:
        real: The real path of the tree's root, which need not exist.
        state: The real path of the state folder.
        allowed: Real paths of folders that are to have all we write, but for the state
            folder; none: anywhere.

    Raises:
        PermissionError: If there is no place for it.
    """
    ground, missing = open_nearest(real)
    try:
        fd = make_real(state, stat.S_IRWXU)
        if _mount_of(fd) == _mount_of(ground):
            return Yard(fd, state)
        os.close(fd)
        places = [real] if not missing else []
        places.insert(0, _above(real, len(missing) or 1))
        for place in places:
            if not allowed or any(is_inside(place, one) for one in allowed):
                yard = _open_beside(place, ground)
                if yard is not None:
                    return yard
    finally:
        os.close(ground)
    text = "no place on its file system to stage files"
    raise PermissionError(errno.EACCES, text, os.fsdecode(real))


def _above(real: bytes, levels: int) -> bytes:
    for _ in range(levels):
        real = os.path.dirname(real)
    return real


def _open_beside(place: bytes, ground: int) -> Yard | None:
    """Open our hidden folder in a folder; None if it is elsewhere, or can't be."""
    name = PREFIX + str(os.geteuid()).encode()
    above, missing = open_nearest(place)
    try:
        if not missing and _mount_of(above) == _mount_of(ground):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, stat.S_IRWXU, dir_fd=above)
            fd = os.open(name, LIST_FLAGS, dir_fd=above)
            found = os.fstat(fd)
            if found.st_uid == os.geteuid() and not found.st_mode & SHARED:
                return Yard(fd, place.rstrip(b"/") + b"/" + name, above=os.dup(above))
            os.close(fd)  # somebody has made it for us
    except OSError:
        return None
    finally:
        os.close(above)
    return None


def _mount_of(fd: int) -> tuple[int, str]:
    """Name what files can be renamed within: a file system, by one of its mounts."""
    mount = ""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{fd}") as info:
        mount = next((line for line in info if line.startswith("mnt_id:")), "")
    return os.fstat(fd).st_dev, mount
