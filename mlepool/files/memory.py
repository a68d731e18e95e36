"""What the store knows of one tree, and what it is told when that is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mlepool.files.base import Chunk
from mlepool.files.commit import Commit
from mlepool.files.descent import Root
from mlepool.files.proofs import Location
from mlepool.files.store import Store
from mlepool.files.untold import NewFile, Untold

__all__ = ["TreeMemory"]


class TreeMemory:
    """A store, as one tree sees it.

    Args:
        store: It; None if there is none, which knows nothing.
        real: The real path of the tree's root.
    """

    def __init__(self, store: Store | None, real: bytes) -> None:
        self._store = store
        self._prefix = real.rstrip(b"/") + b"/"

    def find(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]:
        """Find out where chunks are, in any tree."""
        return {} if self._store is None else self._store.find(digests)

    def chunks_of(self, path: bytes, seen: os.stat_result) -> tuple[Chunk, ...] | None:
        """Give what a file that looks so consists of, if that is known."""
        if self._store is None:
            return None
        [chunks] = self._store.known([(self._prefix + path, seen)])
        return chunks

    def keep(self, root: Root, path: bytes, seen: os.stat_result) -> None:
        """Keep a file's old version, which is about to be replaced."""
        if self._store is not None:
            fd, name = root.parent(path)
            self._store.keep(self._prefix + path, seen, dir_fd=fd, name=name)

    def tell(self, commit: Commit) -> Untold:
        """Say what was written; :meth:`note` is told what this gives."""
        new = {
            self._prefix + one.entry.path: NewFile(one.file.chunks, one.entry.mtime_ns)
            for one in commit.placed
        }
        untold = Untold(new, commit.ended_ns)
        if self._store is not None:
            self._store.tell(untold)
        return untold

    def note_moves(self, commit: Commit) -> None:
        """Note what was moved to the trash."""
        if self._store is not None:
            for old, new in commit.trashed:
                self._store.moved(self._prefix + old, new)

    def note(self, root: Root, untold: Untold) -> None:
        """Note what files consist of now."""

        def see(path: bytes) -> os.stat_result:
            return root.stat(path.removeprefix(self._prefix))

        if self._store is not None:
            self._store.note_untold(untold, see)
