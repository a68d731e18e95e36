"""What is known of one tree's files, and what is found out of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from mlepool.files.base import Chunk
from mlepool.files.names import Naming
from mlepool.files.proofs import Record, file_clock
from mlepool.files.store import Store
from mlepool.tree import Entry, Group

__all__ = ["Notes"]

TOGETHER = 20_000  # files that are noted in one go; held until then, 1 KB each


class Notes:
    """A store, by the paths of a tree.

    Args:
        store: None if nothing is known and nothing is to be noted.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._new: list[Record] = []
        self._prefix = b"/"
        self._clock = 0
        self._is_open = False

    def open(self, real: bytes) -> None:
        """Say where the tree is, the real path of its root: it is scanned now."""
        self._prefix = real.rstrip(b"/") + b"/"
        self._clock = file_clock()
        if self._store is not None and not self._is_open:
            self._is_open = True
            self._store.syncs.begin()

    def known(
        self,
        entries: Sequence[Entry],
        look: Callable[[int], os.stat_result | None],
    ) -> list[tuple[Chunk, ...] | None]:
        """Tell what files consist of that look as they did.

        Args:
            entries: The files.
            look: Gives how the file of that place in ``entries`` looks now.

        Returns:
            For each its chunks; None where that is not proven.
        """
        if self._store is None:
            return [None] * len(entries)
        paths = [self._prefix + one.path for one in entries]
        return self._store.known_by(paths, look)

    def digests(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """Give the content digests of files that have their size and mtime still."""
        if self._store is None:
            return [None] * len(entries)
        self.write()
        prefix = self._prefix
        asked = [(prefix + one.path, one.size, one.mtime_ns) for one in entries]
        return self._store.digests(asked)

    def name(
        self,
        entries: Sequence[Entry],
        groups: Sequence[Group],
        digests: dict[bytes, bytes],
    ) -> tuple[str, list[Entry]]:
        """Name the tree; see :meth:`Naming.run`."""
        names = None if self._store is None else self._store.names
        naming = Naming(names, self._prefix, clock=self._clock, look_up=self.digests)
        return naming.run(entries, groups, digests)

    def add(
        self,
        path: bytes,
        stat: os.stat_result,
        chunks: Sequence[Chunk] | bytes,
        *,
        noted_ns: int,
    ) -> None:
        """Note what a file consists of; written down with others later.

        Args:
            path: Which, in the tree.
            stat: How it looks.
            chunks: As in :class:`Record`.
            noted_ns: As in :class:`Record`.
        """
        if self._store is not None:
            self._new.append(Record(self._prefix + path, stat, chunks, noted_ns))
            if len(self._new) >= TOGETHER:
                self.write()

    def write(self, *, gives_way: bool = False) -> None:
        """Write down what was noted, at once or while nobody syncs."""
        new, self._new = self._new, []
        if self._store is not None and new:
            self._store.note(new, gives_way=gives_way)

    def close(self) -> None:
        """Write down what was noted, now that the sync is over. Twice is fine."""
        if self._store is not None and self._is_open:
            self._is_open = False
            self._store.syncs.end()
        self.write(gives_way=True)
