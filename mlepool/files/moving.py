"""Moves things between folders, also where they can't be renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

from mlepool.files.copying import copy_range
from mlepool.files.descent import LIST_FLAGS, Root

__all__ = ["copy_one", "move", "place"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


def move(tree: Root, path: bytes, *, to: Root, new: bytes) -> None:
    """Move something out of a tree, with all that is in it.

    It is renamed; what can't be, since it is on another file system, or because an
    overlay file system renames no folders, is copied and then removed.

    Args:
        tree: Where it is.
        path: Its path there.
        to: Where it goes.
        new: Its path there; the folder is there already.

    Raises:
        OSError: If it can't be moved; a folder may be moved in part then.
    """
    folders: list[tuple[bytes, bytes]] = []
    waiting = [(path, new)]
    while waiting:
        old, target = waiting.pop()
        try:
            _rename(tree, old, to=to, new=target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            if stat.S_ISDIR(tree.stat(old).st_mode):
                to.make_folder(target)
                folders.append((old, target))
                waiting += [
                    (old + b"/" + one, target + b"/" + one) for one in _names(tree, old)
                ]
            else:
                _carry(tree, old, to=to, new=target)
    for old, target in reversed(folders):
        seen = tree.stat(old)
        to.set_mode(target, seen.st_mode)
        to.set_mtime(target, seen.st_mtime_ns)
        fd, name = tree.parent(old)
        os.rmdir(name, dir_fd=fd)


def place(tree: Root, path: bytes, *, source: int, name: bytes) -> None:
    """Rename a staged file or link into a tree, over what is there.

    Where the tree has another file system mounted in it, it is first copied there.

    Args:
        tree: Where it goes.
        path: Its path there.
        source: The descriptor of the folder that it is in.
        name: Its name there.

    Raises:
        OSError: If it can't be; then what was there still is.
    """
    fd, new = tree.parent(path)
    try:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=fd)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        beside = b".mlepool-" + secrets.token_hex(8).encode()
        try:
            copy_one((source, name), (fd, beside))
            os.rename(beside, new, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=fd)
            raise
        os.unlink(name, dir_fd=source)


def copy_one(old: tuple[int, bytes], copy: tuple[int, bytes]) -> None:
    """Copy a file or a link, with its mode and mtime.

    Args:
        old: The descriptor of the folder that it is in, and its name there.
        copy: The same of the copy; it must not be there.

    Raises:
        OSError: If it can't be copied, or is something else.
    """
    (source, name), (target, new) = old, copy
    seen = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(seen.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
    elif stat.S_ISREG(seen.st_mode):
        _copy_file(old, copy)
    else:
        raise OSError(errno.EXDEV, "neither a file nor a link: not copied")
    times = (seen.st_atime_ns, seen.st_mtime_ns)
    os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def _rename(tree: Root, path: bytes, *, to: Root, new: bytes) -> None:
    source, name = tree.parent(path)
    target, new_name = to.parent(new)
    os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def _carry(tree: Root, path: bytes, *, to: Root, new: bytes) -> None:
    source, name = tree.parent(path)
    target, new_name = to.parent(new)
    copy_one((source, name), (target, new_name))
    os.unlink(name, dir_fd=source)


def _copy_file(old: tuple[int, bytes], copy: tuple[int, bytes]) -> None:
    (source, name), (target, new) = old, copy
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(name, flags, dir_fd=source), "rb") as file:
        seen = os.fstat(file.fileno())
        with open(os.open(new, _NEW, 0o600, dir_fd=target), "wb") as made:
            fds = file.fileno(), made.fileno()
            copy_range(*fds, begin=0, at=0, length=seen.st_size)
            os.fchmod(made.fileno(), stat.S_IMODE(seen.st_mode))


def _names(tree: Root, path: bytes) -> list[bytes]:
    fd = os.open(b".", LIST_FLAGS, dir_fd=tree.folder(path))
    try:
        return [os.fsencode(one) for one in os.listdir(fd)]
    finally:
        os.close(fd)
