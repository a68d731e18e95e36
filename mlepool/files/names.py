"""Names of whole trees by what their scans list: a tree that is as it was is not read.

What a tree is called by its content follows from its entries as long as size and mtime
tell what is in a file, which is what a sync goes by. So does what each group of entries
adds to the name: where little has changed, little is looked up. A scan within moments
of a file's mtime is not remembered: it may be changed once more and look the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from mlepool.files.database import Database
from mlepool.files.proofs import COARSE_TICK
from mlepool.tree import FILE, Entry, Group, content_of, digest_of

__all__ = ["Naming", "TreeNames"]

MOST = 1000  # trees; of more, those that were named first go
MOST_PARTS = 10_000  # groups of trees likewise: some 60 MB, of 600,000 files
TOGETHER = 100  # groups that are looked up in one query
TREE = 16  # bytes that stand for where a tree is

_TABLES = """
CREATE TABLE names (id INTEGER PRIMARY KEY, key BLOB UNIQUE, name TEXT);
CREATE TABLE parts (id INTEGER PRIMARY KEY, key BLOB UNIQUE, content BLOB)
"""


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

    def parts(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Give what groups add to the names of their trees, of those that are known."""
        found: list[tuple[bytes, bytes]] = []
        with self._database.use() as db:
            places = ",".join("?" * len(keys))
            query = f"SELECT key, content FROM parts WHERE key IN ({places})"
            found = db.execute(query, keys).fetchall()
        return dict(found)

    def put_parts(self, parts: Mapping[bytes, bytes]) -> None:
        """Remember what groups add."""
        if not parts:
            return
        with self._database.use(write=True) as db:
            change = "INSERT OR REPLACE INTO parts (key, content) VALUES (?, ?)"
            db.executemany(change, parts.items())
            last = "(SELECT max(id) FROM parts)"
            db.execute(f"DELETE FROM parts WHERE id <= {last} - ?", (MOST_PARTS,))

    def close(self) -> None:
        """Close the database; twice is fine."""
        self._database.close()


class _Part(NamedTuple):
    """A group, and what it is remembered by."""

    key: bytes
    entries: Sequence[Entry]


class Naming:
    """Names one tree.

    Args:
        names: What is remembered; None for nothing.
        real: Where the tree is.
        clock: What :func:`~mlepool.files.proofs.file_clock` said before it was scanned.
        look_up: Gives the content digests of files that are known one by one.
    """

    def __init__(
        self,
        names: TreeNames | None,
        real: bytes,
        *,
        clock: int,
        look_up: Callable[[Sequence[Entry]], Sequence[bytes | None]],
    ) -> None:
        self._names = names
        self._tree = blake3(real).digest(length=TREE)
        self._settled = clock - COARSE_TICK
        self._look_up = look_up
        self._is_settled = True

    def run(
        self,
        entries: Sequence[Entry],
        groups: Sequence[Group],
        digests: dict[bytes, bytes],
    ) -> tuple[str, list[Entry]]:
        """Name the tree.

        Args:
            entries: What its scan lists.
            groups: These in groups.
            digests: Content digests that are known already, by path; more are added.

        Returns:
            Its name; or an empty one, and the files whose content is not known.
        """
        key = blake3(self._tree + b"".join(one.digest for one in groups)).digest()
        if self._names and not digests and (name := self._names.get(key)):
            return name, []
        unknown: list[Entry] = []
        name = digest_of(self._contents(self._parts(entries, groups), digests, unknown))
        if unknown:
            return "", unknown
        if self._names and self._is_settled:
            self._names.put(key, name)
        return name, []

    def _parts(
        self, entries: Sequence[Entry], groups: Sequence[Group]
    ) -> Iterator[_Part]:
        rest = iter(entries)
        for one in groups:
            some = list(itertools.islice(rest, one.size))
            yield _Part(self._tree + one.digest, some)

    def _contents(
        self,
        parts: Iterator[_Part],
        digests: dict[bytes, bytes],
        unknown: list[Entry],
    ) -> Iterator[bytes]:
        """Give what each part adds, but of those with files that are unknown."""
        while some := list(itertools.islice(parts, TOGETHER)):
            # What was read just now counts more than what is remembered.
            keys = [one.key for one in some if not _has_any(one, digests)]
            known = self._names.parts(keys) if self._names and keys else {}
            new: dict[bytes, bytes] = {}
            for part in some:
                content = known.get(part.key)
                if content is None:
                    lacking = self._complete(part, digests)
                    unknown += lacking
                    if lacking:
                        continue
                    content = content_of(part.entries, digests)
                    if self._has_settled(part):
                        new[part.key] = content
                yield content
            if self._names:
                self._names.put_parts(new)

    def _complete(self, part: _Part, digests: dict[bytes, bytes]) -> list[Entry]:
        """Look up the digests that a part lacks; give the files without any."""
        files = [one for one in part.entries if one.kind == FILE]
        lacking = [one for one in files if one.path not in digests]
        found = self._look_up(lacking) if lacking else ()
        for entry, digest in zip(lacking, found, strict=True):
            if digest is not None:
                digests[entry.path] = digest
        return [one for one in lacking if one.path not in digests]

    def _has_settled(self, part: _Part) -> bool:
        """Tell if its files were last changed long enough before they were listed."""
        times = [one.mtime_ns for one in part.entries if one.kind == FILE]
        is_settled = max(times, default=0) < self._settled
        self._is_settled &= is_settled
        return is_settled


_path_of = attrgetter("path")


def _has_any(part: _Part, digests: Mapping[bytes, bytes]) -> bool:
    return not digests.keys().isdisjoint(map(_path_of, part.entries))
