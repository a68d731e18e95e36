"""What the store knows of one tree, and what it is told when that is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from mlepool.files.base import Chunk
from mlepool.files.commit import Commit
from mlepool.files.descent import Root
from mlepool.files.proofs import Location, Record
from mlepool.files.store import Store

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

    def scanning(self) -> AbstractContextManager[None]:
        """List the tree within it; see :attr:`Store.scans`."""
        return nullcontext() if self._store is None else self._store.scans

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

    def note(self, root: Root, commit: Commit) -> None:
        """Tell what was moved, and what files consist of now."""
        if self._store is None:
            return
        for old, new in commit.trashed:
            self._store.moved(self._prefix + old, new)
        self._store.note(self._records(root, commit))

    def _records(self, root: Root, commit: Commit) -> Iterator[Record]:
        """Look at what was placed; others may have written to it by now."""
        for placed in commit.placed:
            path, chunks = placed.entry.path, placed.file.chunks
            try:
                seen = root.stat(path)
            except OSError:
                continue
            # Who has written to it since has changed its time as well; or put that
            # back: its ctime is no earlier than the commit's end.
            if seen.st_mtime_ns == placed.entry.mtime_ns:
                yield Record(self._prefix + path, seen, chunks, commit.ended_ns)
