"""Removes folders with all that is in them, however deep they are."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from mlepool.files.descent import LIST_FLAGS

__all__ = ["remove_tree"]


def remove_tree(parent: int, name: bytes) -> None:
    """Remove something, a folder with all that is in it; for folders that are ours.

    What lies deep is brought up first: neither paths nor open folders add up.

    Args:
        parent: The descriptor of the folder that it is in.
        name: Its name there.

    Raises:
        OSError: If it is not there, or can't be removed; then some of it may be gone.
    """
    if not _is_folder(parent, name):
        os.unlink(name, dir_fd=parent)
        return
    fd = _open_for_removal(parent, name)
    try:
        while names := os.listdir(fd):
            for one in map(os.fsencode, names):
                if _is_folder(fd, one):
                    _empty(fd, one)
                    os.rmdir(one, dir_fd=fd)
                else:
                    os.unlink(one, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _empty(top: int, name: bytes) -> None:
    """Empty a folder: files are removed, folders moved beside it."""
    fd = _open_for_removal(top, name)
    try:
        for one in map(os.fsencode, os.listdir(fd)):
            if _is_folder(fd, one):
                os.close(_open_for_removal(fd, one))  # else it can't be moved
                new = secrets.token_hex(12).encode()
                os.rename(one, new, src_dir_fd=fd, dst_dir_fd=top)
            else:
                os.unlink(one, dir_fd=fd)
    finally:
        os.close(fd)


def _is_folder(parent: int, name: bytes) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISDIR(found.st_mode)


def _open_for_removal(parent: int, name: bytes) -> int:
    with contextlib.suppress(PermissionError):  # not ours, but perhaps we may
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
    return os.open(name, LIST_FLAGS, dir_fd=parent)
