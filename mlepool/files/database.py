"""An SQLite file that is a cache: lost without harm, never the cause of a failure."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Database"]

logger = logging.getLogger("mlepool.files")

APPLICATION = 0x6D6C6570  # says that a database is one of ours
BUSY = 5.0  # seconds to wait for another process that writes
CACHE = 16 * 1024  # KiB of pages in memory


class Database:
    """One connection, lent to one thread at a time; other processes have theirs.

    A file that is damaged, or is no database of ours, is set aside as ``*.damaged`` and
    begun anew. If it can't even be opened it is kept in memory.

    Args:
        path: Where. Its folder is there.
        tables: The SQL that makes its tables. What is in the file has the same shape:
            who changes the tables changes the file's name.
    """

    def __init__(self, path: Path, *, tables: str) -> None:
        self._path = path
        self._tables = tables
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._db: sqlite3.Connection | None = self._open()

    @contextlib.contextmanager
    def use(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the connection: to read, or for one transaction that writes.

        A failure of the database ends the block and is logged; what the block would
        have read is not there, what it has written is undone. If it fails before, or is
        closed, an empty one is lent.
        """
        with self._lock:
            db = self._begin(write=write)
            if db is None:
                with contextlib.closing(self._open_in_memory()) as empty:
                    yield empty
                return
            try:
                yield db
                if write:
                    db.execute("COMMIT")
            except sqlite3.Error as exc:
                self._undo(db)
                self._cope(db, exc)
            except BaseException:
                self._undo(db)
                raise

    def _begin(self, *, write: bool) -> sqlite3.Connection | None:
        db = self._db
        if db is not None and write:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as exc:
                self._cope(db, exc)
                return None
        return db

    def close(self) -> None:
        """Close the file; twice is fine."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _undo(self, db: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _cope(self, db: sqlite3.Connection, exc: sqlite3.Error) -> None:
        """Begin anew if the file is damaged; locks and full disks pass by themselves.

        Raises:
            sqlite3.ProgrammingError: What is wrong in our own code.
        """
        if isinstance(exc, sqlite3.ProgrammingError):
            raise exc
        if not _is_passing(exc):
            db.close()
            self._set_aside(exc)
            self._db = self._open()
        elif str(exc) not in self._told:
            self._told.add(str(exc))
            logger.warning("%s is not used just now: %s", self._path, exc)

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                return self._prepare(self._connect(str(self._path)))
            except sqlite3.Error as exc:
                if _is_passing(exc):
                    logger.warning("%s is kept in memory: %s", self._path, exc)
                    break
                self._set_aside(exc)
        return self._open_in_memory()

    def _open_in_memory(self) -> sqlite3.Connection:
        return self._prepare(self._connect(":memory:"))

    def _connect(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(
            name, timeout=BUSY, isolation_level=None, check_same_thread=False
        )

    def _prepare(self, db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{CACHE}")
            db.execute("BEGIN IMMEDIATE")  # of two that make it one waits, and finds it
            (number,) = db.execute("PRAGMA application_id").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if number != APPLICATION:
                if number or tables:
                    raise sqlite3.DatabaseError("it is no database of ours")
                for statement in self._tables.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, exc: sqlite3.Error) -> None:
        logger.warning("%s is set aside and begun anew: %s", self._path, exc)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self._path}{suffix}")
        with contextlib.suppress(OSError):
            os.replace(self._path, f"{self._path}.damaged")


def _is_passing(exc: sqlite3.Error) -> bool:
    """Tell if the file is not to blame: it is locked, the disk is full or forbids."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(exc, sqlite3.OperationalError) and code not in damaged
