"""Reaches what is in a tree from its root's descriptor, one part of a path at a time.

No path is ever resolved as a whole. So a folder that somebody swaps for a symbolic link
is an error and no way out, and paths may be longer than the system takes at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "CLOSED",
    "FOLDER_FLAGS",
    "LIST_FLAGS",
    "Root",
    "check_path",
    "is_inside",
    "locate_root",
    "make_real",
    "open_nearest",
    "open_real",
    "paths_in",
    "places_of",
    "split_path",
]

# Not on every platform: Windows has none of them, nor dir_fd, and syncs no files.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a pipe that was swapped in: no wait
_PATH = getattr(os, "O_PATH", 0)  # needs no right to read: folders of mode 0711

FOLDER_FLAGS = _PATH | _DIRECTORY | _NOFOLLOW | _CLOEXEC
LIST_FLAGS = os.O_RDONLY | _DIRECTORY | _NOFOLLOW | _CLOEXEC
# Two slashes, or one and an end, with no name between them; or what no name can have.
_HOSTILE = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")
OWN_ACCESS = stat.S_IRWXU
MODE_BITS = 0o7777
CLOSED = "the worker's own folder: for admins only"
MAX_OPEN = 64  # folders that are kept open: those of the files being worked at
TRUSTED_FOR = 16  # uses of one folder until it is looked at again


class _Folder(NamedTuple):
    fd: int
    device: int
    inode: int


def split_path(path: bytes) -> list[bytes]:
    """Give the parts of a path inside a tree.

    Raises:
        ValueError: If it is empty, absolute or leads out of the tree, or no file
            system could have it.
    """
    check_path(path)
    return path.split(b"/")


def check_path(path: bytes) -> None:
    """Check a path as :func:`split_path` does."""
    if _HOSTILE.search(path):
        raise ValueError(f"not a path inside a tree: {path[:200]!r}")


def is_inside(path: bytes, folder: bytes) -> bool:
    """Tell if a real path is a folder's own, or one below it; prefixes don't count."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def places_of(folders: Iterable[str | os.PathLike[str]]) -> set[tuple[int, int]]:
    """Give device and inode of folders, of those that are there."""
    found = set()
    for one in folders:
        with contextlib.suppress(FileNotFoundError):
            seen = os.stat(one)
            found.add((seen.st_dev, seen.st_ino))
    return found


def paths_in(root: bytes, folders: Iterable[str | os.PathLike[str]]) -> list[bytes]:
    """Give the paths of folders within a tree, of those that lie in it."""
    real = [os.path.realpath(os.fsencode(one)) for one in folders]
    return [os.path.relpath(one, root) for one in real if is_inside(one, root)]


def locate_root(
    path: str | bytes,
    allowed: Sequence[str | bytes] = (),
    *,
    closed: Iterable[str | os.PathLike[str]] = (),
) -> bytes:
    """Give the real path of a tree's root, which need not exist yet.

    Args:
        path: Where; symbolic links are followed here, and only here.
        allowed: Folders that it must be in, or be; none: anywhere.
        closed: Folders that it can't be in, nor be.

    Raises:
        PermissionError: If it is not inside the allowed folders, or in a closed one.
    """
    real = os.path.realpath(os.fsencode(path))
    folders = [os.path.realpath(os.fsencode(one)) for one in allowed]
    if folders and not any(is_inside(real, one) for one in folders):
        text = "not inside the folders that are open to clients"
        raise PermissionError(errno.EACCES, text, os.fsdecode(real))
    if any(is_inside(real, os.path.realpath(os.fsencode(one))) for one in closed):
        raise PermissionError(errno.EACCES, CLOSED, os.fsdecode(real))
    return real


def open_real(real: bytes) -> int:
    """Open a folder by a path without symbolic links; who calls closes.

    Raises:
        OSError: If it is not there, no folder, or has a link in it by now.
    """
    fd, rest = open_nearest(real)
    if rest:
        os.close(fd)
        name = os.fsdecode(real)
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", name)
    return fd


def open_nearest(real: bytes) -> tuple[int, list[bytes]]:
    """Open the deepest folder of a path that is there; who calls closes.

    Returns:
        It, and the names that are missing below it.

    Raises:
        OSError: If something on the way is no folder, a link by now, or forbidden.
    """
    parts = [part for part in real.split(b"/") if part]
    fd = os.open(b"/", FOLDER_FLAGS)
    for number, part in enumerate(parts):
        try:
            fd = _step(fd, part)
        except FileNotFoundError:
            return fd, parts[number:]
        except OSError as exc:
            os.close(fd)
            raise type(exc)(exc.errno, exc.strerror, os.fsdecode(real)) from exc
    return fd, []


def make_real(real: bytes, mode: int = 0o777) -> int:
    """Open a folder by a path without links, made if it is not there, with parents.

    Args:
        real: Where.
        mode: Permission bits of what is made, without those of the umask.

    Raises:
        OSError: As of :func:`open_nearest`, or if it can't be made.
    """
    fd, missing = open_nearest(real)
    try:
        for part in missing:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=fd)
            fd = _step(fd, part)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(fd: int, part: bytes) -> int:
    """Open what is in a folder, and close the folder."""
    below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
    os.close(fd)
    return below


class Root:
    """A tree, by its root's descriptor.

    Paths are bytes relative to it, as in :mod:`mlepool.tree`; hostile ones are
    ValueErrors. Folders on the way are kept open. When another folder's turn comes, and
    now and then, it is checked that they still are where they were: who moves one away,
    out of the tree even, is not followed there.

    Args:
        fd: The root's descriptor; closed by :meth:`close`.
        closed: Device and inode of folders that nothing is reached in.
    """

    def __init__(self, fd: int, *, closed: Collection[tuple[int, int]] = ()) -> None:
        self.fd = fd
        self._closed = closed
        self._open: OrderedDict[bytes, _Folder] = OrderedDict()
        self._last = b""
        self._uses = 0

    def folder(self, path: bytes) -> int:
        """Give the descriptor of a folder, good until the next call; ``b""``: the root.

        Raises:
            OSError: If it is not there, or no folder: a link is none.
        """
        self._uses += 1
        if path and path == self._last and self._uses % TRUSTED_FOR:
            return self._open[path].fd
        self._last = b""
        if not path:
            return self.fd
        fd, at = self.fd, 0
        for part in split_path(path):
            at += len(part)
            fd = self._enter(fd, part, path[:at])
            at += 1
        self._last = path
        return fd

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """Give the descriptor of the folder that something is in, and its name."""
        check_path(path)
        folder, _, name = path.rpartition(b"/")
        return self.folder(folder), name

    def stat(self, path: bytes) -> os.stat_result:
        """Look at something, at a link itself; ``b""``: the root.

        Raises:
            OSError: If it is not there, or its folder is none.
        """
        if not path:
            return os.fstat(self.fd)
        fd, name = self.parent(path)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def open_file(self, path: bytes) -> int:
        """Open a file for reading; who calls closes.

        Raises:
            OSError: If it can't be read, or is no file: a link is none.
        """
        fd, name = self.parent(path)
        flags = os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _CLOEXEC
        found = os.open(name, flags, dir_fd=fd)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise OSError(errno.EINVAL, "not a file")
        return found

    def make_folder(self, path: bytes) -> None:
        """Make a folder for us alone; its mode is set when all is in it."""
        fd, name = self.parent(path)
        os.mkdir(name, OWN_ACCESS, dir_fd=fd)

    def make_folders(self, path: bytes) -> int:
        """Make a folder with its parents, for us alone; fine if they are there.

        Returns:
            As of :meth:`folder`.
        """
        at = path.find(b"/")
        while path:
            with contextlib.suppress(FileExistsError):
                self.make_folder(path if at < 0 else path[:at])
            if at < 0:
                break
            at = path.find(b"/", at + 1)
        return self.folder(path)

    def set_mode(self, path: bytes, mode: int) -> None:
        """Set the permission bits of a file or folder, never those behind a link.

        Args:
            path: Which; ``b""``: the root.
            mode: The bits; those of the kind are left out.

        Raises:
            OSError: If it is a link, or not ours.
        """
        if not path:
            _change_mode(self.fd, mode)
            return
        fd, name = self.parent(path)
        found = os.open(name, (_PATH or _NONBLOCK) | _NOFOLLOW | _CLOEXEC, dir_fd=fd)
        try:
            if stat.S_ISLNK(os.fstat(found).st_mode):
                raise OSError(errno.ELOOP, "a symbolic link")
            _change_mode(found, mode)
        finally:
            os.close(found)

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Set when something was modified, a link itself too; nanoseconds."""
        fd, name = self.parent(path)
        times = (mtime_ns, mtime_ns)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def close(self) -> None:
        """Close all; twice is fine."""
        self.forget()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Close the folders below the root."""
        while self._open:
            os.close(self._open.popitem()[1].fd)
        self._last = b""

    def _enter(self, fd: int, part: bytes, path: bytes) -> int:
        """Give the descriptor of the folder ``path``, which is ``part`` in ``fd``."""
        known = self._open.get(path)
        if known is not None:
            found = os.stat(part, dir_fd=fd, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == (known.device, known.inode):
                self._open.move_to_end(path)
                return known.fd
            os.close(self._open.pop(path).fd)
        below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
        found = os.fstat(below)
        if (found.st_dev, found.st_ino) in self._closed:
            os.close(below)
            raise PermissionError(errno.EACCES, CLOSED)
        self._open[path] = _Folder(below, found.st_dev, found.st_ino)
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1].fd)
        return below


def _change_mode(fd: int, mode: int) -> None:
    """Change the mode of what a descriptor is of; one by O_PATH takes no fchmod."""
    if _PATH:
        os.chmod(f"/proc/self/fd/{fd}", mode & MODE_BITS)
    else:
        os.fchmod(fd, mode & MODE_BITS)
