"""What the store knows of one tree, and what it is told when that is written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence

from mlepool.files.base import Chunk
from mlepool.files.commit import Commit
from mlepool.files.descent import Root
from mlepool.files.proofs import Location, Record, file_clock
from mlepool.files.store import Store

__all__ = ["TreeMemory"]

TICK = 0.002  # seconds; the clock of files has ticks of 1 to 10 ms
MOST_TICKS = 10  # waited for; a server may have another clock


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

    def note(self, root: Root, commit: Commit) -> None:
        """Tell what was moved, and what files consist of now."""
        if self._store is None:
            return
        for old, new in commit.trashed:
            self._store.moved(self._prefix + old, new)
        if commit.placed:
            _let_tick(root, commit.placed[-1].entry.path)
        records = []
        for placed in commit.placed:
            path, clock = placed.entry.path, file_clock()
            with contextlib.suppress(OSError):
                seen = root.stat(path)
                # Who has written to it since has changed its time as well.
                if seen.st_mtime_ns == placed.entry.mtime_ns:
                    chunks = placed.file.chunks
                    records.append(Record(self._prefix + path, seen, chunks, clock))
        self._store.note(records)


def _let_tick(root: Root, path: bytes) -> None:
    """Wait for the clock of files: what changes in one tick looks unchanged.

    Args:
        root: The tree.
        path: What was changed last in it.
    """
    with contextlib.suppress(OSError):
        last = root.stat(path).st_ctime_ns
        for _ in range(MOST_TICKS):
            if file_clock() > last:
                return
            time.sleep(TICK)
