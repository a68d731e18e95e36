"""What was noted of files and their chunks, as tables; no file is looked at here."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mlepool.files.base import Chunk
from mlepool.files.database import Database
from mlepool.files.proofs import LOOSE, Location

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["CHUNK_SIZE", "Catalogue", "Place", "Row", "pack_chunks", "unpack_chunks"]

T = TypeVar("T")

MOST_FILES = 2_000_000
MOST_CHUNKS = 4_000_000  # rows, about 400 MB: the chunks of 1 TB
PLACES = 4  # of a chunk that are given, those noted last
MORE = 4  # times as many rows are read in one go as were asked for, at most
BATCH = 200  # things that are asked for in one query
DROP = 1000  # files that are dropped at a time where there are too many

_CHUNK = struct.Struct("<32sI")
CHUNK_SIZE = _CHUNK.size  # bytes of a packed chunk

_TABLES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, proof BLOB NOT NULL,
    trust INTEGER NOT NULL, chunks BLOB NOT NULL);
CREATE TABLE chunks (
    digest BLOB NOT NULL, file INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, PRIMARY KEY (digest, file)) WITHOUT ROWID;
CREATE TABLE attic (
    file INTEGER PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE counts (files INTEGER NOT NULL, chunks INTEGER NOT NULL, swept INTEGER);
INSERT INTO counts VALUES (0, 0, 0)
"""

_COLUMNS = "f.path, f.proof, f.trust, f.chunks, f.id"  # as a Row has them
_ROWS = f"SELECT {_COLUMNS} FROM files f"

# A chunk that very many files have, of zeros maybe, has few rows all the same.
_PLACES = f"""
WITH asked(digest) AS (VALUES %s)
SELECT asked.digest, f.id, f.path, c.offset, c.length, f.proof, f.trust
FROM asked JOIN chunks c ON c.digest = asked.digest AND c.file IN (
    SELECT file FROM chunks WHERE digest = asked.digest
    ORDER BY file DESC LIMIT {PLACES})
JOIN files f ON f.id = c.file
"""


class Row(NamedTuple):
    """A file.

    Attributes:
        path: Absolute.
        proof: How it looked.
        trust: How far that is to be trusted, as in :mod:`mlepool.files.proofs`.
        chunks: As :func:`pack_chunks` has them.
        file: Its number; 0 if it has none yet.
    """

    path: bytes
    proof: bytes
    trust: int
    chunks: bytes
    file: int = 0


class Place(NamedTuple):
    """The number of a file, and where in it a chunk is said to be."""

    file: int
    location: Location


def pack_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Make chunks bytes."""
    return b"".join([_CHUNK.pack(one.digest, one.length) for one in chunks])


def unpack_chunks(packed: bytes) -> tuple[Chunk, ...]:
    """Make them chunks again."""
    return tuple(Chunk(*one) for one in _CHUNK.iter_unpack(packed))


class Catalogue:
    """The tables. Its methods do nothing, and find nothing, if the database fails.

    Those that drop files give the paths of those that were in the attic: they are to
    be removed there.

    Args:
        path: Where its database is.
        most_files: Rows; beyond that the oldest are dropped.
        most_chunks: As ``most_files``.
    """

    def __init__(
        self,
        path: Path,
        *,
        most_files: int = MOST_FILES,
        most_chunks: int = MOST_CHUNKS,
    ) -> None:
        self._database = Database(path, tables=_TABLES)
        self._most = (most_files, most_chunks)

    def places(self, digests: Iterable[bytes]) -> dict[bytes, list[Place]]:
        """Give where chunks are said to be."""
        found: dict[bytes, list[Place]] = {}
        with self._database.use() as db:
            for some in _batches(digests):
                query = _PLACES % ",".join(["(?)"] * len(some))
                for digest, file, *place in db.execute(query, some):
                    location = Location(*place)
                    found.setdefault(digest, []).append(Place(file, location))
        return found

    def rows(self, paths: Sequence[bytes]) -> dict[bytes, Row]:
        """Give what is noted of some files."""
        found: list[Row] = []
        with self._database.use() as db:
            found = _rows(db, paths)
        return {one.path: one for one in found}

    def below(self, folder: bytes) -> list[Row]:
        """Give what is noted of all files in a folder and below."""
        with self._database.use() as db:
            return _below(db, folder)
        return []

    def add(self, rows: Sequence[Row]) -> list[bytes]:
        """Note files, in place of what was noted of their paths if that differs."""
        with self._database.use(write=True) as db:
            old = _rows(db, [one.path for one in rows])
            known, new = {one[:4] for one in old}, {one[:4] for one in rows}
            _drop(db, [one for one in old if one[:4] not in new])
            _add(db, [one for one in rows if one[:4] not in known])
            return _shrink(db, *self._most)
        return []

    def hold(
        self, rows: Sequence[Row], *, sizes: Sequence[int], limit: int
    ) -> list[bytes]:
        """Note files that are in the attic, and drop those not used for longest.

        Args:
            rows: What is new there.
            sizes: Bytes that each of them takes.
            limit: Bytes that all may take.
        """
        with self._database.use(write=True) as db:
            _drop(db, _rows(db, [one.path for one in rows]))
            numbers = _add(db, rows)
            now = time.time_ns()
            held = [
                (number, size, now) for number, size in zip(numbers, sizes, strict=True)
            ]
            db.executemany("INSERT INTO attic VALUES (?, ?, ?)", held)
            return _evict(db, limit) + _shrink(db, *self._most)
        return []

    def held(self) -> list[Row]:
        """Give the files that are in the attic."""
        with self._database.use() as db:
            query = f"SELECT {_COLUMNS} FROM attic JOIN files f ON f.id = file"
            return list(map(Row._make, db.execute(query)))
        return []

    def used(self, paths: Iterable[bytes]) -> None:
        """Note that files of the attic are of use."""
        with self._database.use(write=True) as db:
            now = time.time_ns()
            change = (
                "UPDATE attic SET used = ?"
                " WHERE file = (SELECT id FROM files WHERE path = ?)"
            )
            db.executemany(change, [(now, one) for one in paths])

    def drop(self, files: Iterable[tuple[int, bytes]]) -> list[bytes]:
        """Forget files by number and proof: not if they were noted again since."""
        with self._database.use(write=True) as db:
            proofs = dict(files)
            found = _in(db, f"{_ROWS} WHERE id", proofs)
            rows = map(Row._make, found)
            return _drop(db, [one for one in rows if one.proof == proofs[one.file]])
        return []

    def forget(self, path: bytes) -> list[bytes]:
        """Forget a file, or all files of a folder and below."""
        with self._database.use(write=True) as db:
            return _drop(db, [*_rows(db, [path]), *_below(db, path)])
        return []

    def rename(self, old: bytes, new: bytes) -> None:
        """Note that a file or folder was renamed, and so has another ctime."""
        with self._database.use(write=True) as db:
            change = "UPDATE OR IGNORE files SET path = ?, trust = ? WHERE path = ?"
            db.execute(change, (new, LOOSE, old))
            moved = [(new + one.path[len(old) :], one.file) for one in _below(db, old)]
            db.executemany("UPDATE OR IGNORE files SET path = ? WHERE id = ?", moved)

    def next_rows(self, count: int) -> list[Row]:
        """Give some files, others each time, all of them in turn."""
        with self._database.use(write=True) as db:
            query = f"{_ROWS} WHERE id > (SELECT swept FROM counts) ORDER BY id LIMIT ?"
            found = list(map(Row._make, db.execute(query, (count,))))
            last = found[-1].file if len(found) == count else 0
            db.execute("UPDATE counts SET swept = ?", (last,))
            return found
        return []

    def close(self) -> None:
        """Close the database; twice is fine."""
        self._database.close()


def _rows(db: Connection, paths: Sequence[bytes]) -> list[Row]:
    """Give what is noted of some files; most often they are those of some folders."""
    if not paths:
        return []
    query = f"{_ROWS} WHERE path BETWEEN ? AND ? LIMIT ?"
    most = MORE * len(paths)
    bounds = (min(paths), max(paths), most)
    found = list(map(Row._make, db.execute(query, bounds)))
    if len(found) < most:
        asked = set(paths)
        return [one for one in found if one.path in asked]
    return list(map(Row._make, _in(db, f"{_ROWS} WHERE path", paths)))


def _in(db: Connection, query: str, things: Iterable[Any]) -> Iterator[Any]:
    """Ask for what is one of some things, as many at a time as fit in a query."""
    for some in _batches(things):
        yield from db.execute(f"{query} IN ({','.join('?' * len(some))})", some)


def _batches(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(itertools.islice(rest, BATCH)):
        yield some


def _below(db: Connection, folder: bytes) -> list[Row]:
    folder = folder.rstrip(b"/")
    bounds = (folder + b"/", folder + b"0")  # what follows a slash in ASCII
    query = f"{_ROWS} WHERE path > ? AND path < ?"
    return list(map(Row._make, db.execute(query, bounds)))


def _add(db: Connection, rows: Sequence[Row]) -> range:
    """Note files of paths that nothing is noted of; gives their numbers.

    The later a file was noted, the higher it is.
    """
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()
    numbers = range(last + 1, last + 1 + len(rows))
    # Side by side, in C: this is most of the work of a tree of many small files.
    columns = [*zip(*rows, strict=True)][:4]
    files = zip(numbers, *columns, strict=True) if rows else ()
    db.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", files)
    cut = (
        one
        for number, row in zip(numbers, rows, strict=True)
        for one in _cut(row, number)
    )
    added = db.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?)", cut)
    _count(db, len(rows), max(0, added.rowcount))
    return numbers


def _cut(row: Row, number: int) -> Iterable[tuple[bytes, int, int, int]]:
    if len(row.chunks) == CHUNK_SIZE:
        digest, length = _CHUNK.unpack(row.chunks)
        return ((digest, number, 0, length),)
    offset = 0
    cut = []
    for digest, length in _CHUNK.iter_unpack(row.chunks):
        cut.append((digest, number, offset, length))
        offset += length
    return cut


def _drop(db: Connection, rows: Sequence[Row]) -> list[bytes]:
    """Forget files; gives the paths of those that were in the attic."""
    if not rows:
        return []
    numbers = [(one.file,) for one in rows]
    query = "SELECT f.path FROM attic JOIN files f ON f.id = file WHERE file"
    held = [path for (path,) in _in(db, query, [one.file for one in rows])]
    db.executemany("DELETE FROM attic WHERE file = ?", numbers)
    db.executemany("DELETE FROM files WHERE id = ?", numbers)
    cut = (
        (digest, row.file)
        for row in rows
        for digest, _ in _CHUNK.iter_unpack(row.chunks)
    )
    removed = db.executemany("DELETE FROM chunks WHERE digest = ? AND file = ?", cut)
    _count(db, -len(rows), -max(0, removed.rowcount))
    return held


def _count(db: Connection, files: int, chunks: int) -> None:
    change = "UPDATE counts SET files = files + ?, chunks = chunks + ?"
    db.execute(change, (files, chunks))


def _shrink(db: Connection, most_files: int, most_chunks: int) -> list[bytes]:
    """Forget the files noted first while there are too many."""
    held: list[bytes] = []
    while True:
        files, chunks = db.execute("SELECT files, chunks FROM counts").fetchone()
        if files <= most_files and chunks <= most_chunks:
            return held
        over = max(files - most_files, 1)
        query = f"{_ROWS} ORDER BY id LIMIT ?"
        oldest = list(map(Row._make, db.execute(query, (min(over, DROP),))))
        if not oldest:
            return held
        held += _drop(db, oldest)


def _evict(db: Connection, limit: int) -> list[bytes]:
    """Forget what was not used for longest while the attic takes too much."""
    held: list[bytes] = []
    (total,) = db.execute("SELECT coalesce(sum(size), 0) FROM attic").fetchone()
    query = (
        f"SELECT size, {_COLUMNS} FROM attic JOIN files f ON f.id = file"
        " ORDER BY used, file"
    )
    for size, *columns in db.execute(query).fetchall() if total > limit else ():
        if total <= limit:
            break
        total -= size
        held += _drop(db, [Row(*columns)])
    return held
