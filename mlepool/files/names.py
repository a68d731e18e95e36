"""Names of whole trees by what their scans list: a tree that is as it was is not read.

What a tree is called by its content follows from its entries as long as size and mtime
tell what is in a file, which is what a sync goes by. A scan within moments of a file's
mtime is not remembered: it may be changed once more and look the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from mlepool.files.database import Database
from mlepool.files.proofs import COARSE_TICK
from mlepool.tree import FILE, Entry

__all__ = ["TreeNames", "is_settled", "key_of"]

MOST = 1000  # trees; of more, those that were named first go
BATCH = 10_000  # entries encoded at a time

_TABLES = "CREATE TABLE names (id INTEGER PRIMARY KEY, key BLOB UNIQUE, name TEXT)"
_encoder = msgspec.msgpack.Encoder()


class TreeNames:
    """The names; a cache, as :class:`~mlepool.files.database.Database` is one.

    Args:
        path: Where its database is.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, tables=_TABLES)

    def get(self, key: bytes) -> str:
        """Give a tree's name; empty if it is not known."""
        found: list[tuple[str]] = []
        with self._database.use() as db:
            query = "SELECT name FROM names WHERE key = ?"
            found = db.execute(query, (key,)).fetchall()
        return found[0][0] if found else ""

    def put(self, key: bytes, name: str) -> None:
        """Remember a tree's name."""
        with self._database.use(write=True) as db:
            change = "INSERT OR REPLACE INTO names (key, name) VALUES (?, ?)"
            db.execute(change, (key, name))
            db.execute("DELETE FROM names WHERE id <= last_insert_rowid() - ?", (MOST,))

    def close(self) -> None:
        """Close the database; twice is fine."""
        self._database.close()


def key_of(real: bytes, entries: Sequence[Entry]) -> bytes:
    """Give what a tree is remembered by: where it is, and all that its scan lists."""
    hasher = blake3(len(real).to_bytes(4, "little") + real)
    for some in _batches(entries):
        hasher.update(_encoder.encode(some))
    return hasher.digest()


def is_settled(entries: Sequence[Entry], clock: int) -> bool:
    """Tell if all files were last changed long enough before the clock was read."""
    last = clock - COARSE_TICK
    return all(one.mtime_ns < last for one in entries if one.kind == FILE)


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for at in range(0, len(entries), BATCH):
        yield entries[at : at + BATCH]
