"""What was deleted, kept for some days: moved by renaming, under its old path.

Each sync that deletes makes a folder named by date: ``root`` in it says which tree it
was, ``tree`` holds what was deleted from there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time

from mlepool.files.descent import LIST_FLAGS, Root
from mlepool.files.moving import move
from mlepool.files.removal import remove_tree
from mlepool.files.yard import Yard

__all__ = ["KEPT_FOR", "Trash"]

KEPT_FOR = 7 * 24 * 3600.0  # seconds
TRASH = b"trash"
CONTENT = b"tree"
ORIGIN = b"root"


class Trash:
    """Takes what is deleted from one tree.

    Args:
        yard: Our folder on the tree's file system; closed by who opened it.
        origin: The real path of the tree's root.
    """

    def __init__(self, yard: Yard, origin: bytes) -> None:
        self._yard = yard
        self._origin = origin
        self._folder = b""

    def take(self, tree: Root, path: bytes) -> bytes:
        """Move something here, with all that is in it.

        Returns:
            Its path there, as a whole.

        Raises:
            OSError: If it can't be moved.
        """
        new = b"/".join((self._open(), CONTENT, path))
        self._yard.root.make_folders(os.path.dirname(new))
        move(tree, path, to=self._yard.root, new=new)
        return self._yard.path + b"/" + new

    def purge(self, now: float) -> None:
        """Remove what was deleted long ago; ``now`` in seconds since the epoch."""
        try:
            trash = os.open(b".", LIST_FLAGS, dir_fd=self._yard.root.folder(TRASH))
        except FileNotFoundError:
            return
        try:
            for name in map(os.fsencode, os.listdir(trash)):
                # Others purge at the same time, too.
                with contextlib.suppress(OSError):
                    seen = os.stat(name, dir_fd=trash, follow_symlinks=False)
                    if seen.st_mtime < now - KEPT_FOR:
                        remove_tree(trash, name)
        finally:
            os.close(trash)

    def _open(self) -> bytes:
        """Give the folder of this sync, made when there is something for it."""
        if not self._folder:
            day = time.strftime("%Y-%m-%d-%H%M%S").encode()
            name = b"%b-%b" % (day, secrets.token_hex(4).encode())
            folder = TRASH + b"/" + name
            fd = self._yard.root.make_folders(folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(ORIGIN, flags, stat.S_IRUSR, dir_fd=fd), "wb") as file:
                file.write(self._origin + b"\n")
            self._folder = folder
        return self._folder
