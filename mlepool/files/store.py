"""Where content lies: an index of the files of all synced trees, and an attic.

A cache: what it holds is checked before it is believed, and it may be lost at any time.
So no failure of its own is anybody's failure. Several processes may have it open. All
methods block, and may be called by any thread.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mlepool.files.attic import Attic, default_limit, real_size
from mlepool.files.base import Chunk
from mlepool.files.catalogue import (
    CHUNK_SIZE,
    Catalogue,
    Row,
    pack_chunks,
    unpack_chunks,
)
from mlepool.files.chunks import content_digest
from mlepool.files.names import TreeNames
from mlepool.files.proofs import (
    LOOSE,
    SOUND,
    Location,
    Record,
    has_times,
    is_same,
    look,
    pack_proof,
    rate,
)
from mlepool.files.turns import Turn
from mlepool.files.untold import Untold

__all__ = ["Store"]

FILE = "content-1.db"  # another number for other tables
NAMES = "names-2.db"
ATTIC = "attic"
DIGEST = 32  # bytes, with which a packed chunk begins
STEP = 250  # files that are noted at a time: some milliseconds
STEP_PATIENCE = 0.1  # seconds that each of these waits at most while others sync
PATIENCE = 10.0  # seconds that what was moved is waited for at most
SWEEP = 200  # files looked at after each note
BATCH = 256  # old versions that are written down together


class Store:
    """What is known of content on this machine.

    Args:
        folder: Where the index and the attic are; made if it is not there.
        limit: Bytes of disk that the attic may take; None for 10 GiB, or 5 % of the
            disk if that is less.

    Attributes:
        names: Names of whole trees.
        syncs: Those within it are not held up by what others note meanwhile.
        moving: Who is about to tell what was moved, within it, is waited for before
            anything is looked for.

    Raises:
        OSError: If the folder can't be made.
    """

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._attic = Attic(folder / ATTIC)
        self._limit = default_limit(folder) if limit is None else limit
        self._catalogue = Catalogue(folder / FILE)
        self.names = TreeNames(folder / NAMES)
        self.syncs, self.moving = Turn(), Turn()
        self._untold: list[Untold] = []
        self._lock = threading.Lock()
        self._kept: list[tuple[Row, int]] = []
        self._stale: set[tuple[int, bytes]] = set()
        held = self._catalogue.held()
        self._drop((one.file, one.proof) for one in held if look(one.path) is None)
        self._attic.clear({one.path for one in held}, now=time.time())

    def find(self, digests: Iterable[bytes]) -> dict[bytes, Location]:
        """Look up where chunks are.

        Returns:
            For those that are somewhere, where: the file looks as it did when it was
            noted, which :meth:`Location.open` checks again.
        """
        self.moving.wait_out(PATIENCE)
        self.flush()
        digests = list(digests)
        places = self._catalogue.places(digests)
        paths = {one.location.path for some in places.values() for one in some}
        looks = {path: look(path) for path in paths}
        found: dict[bytes, Location] = {}
        for digest, some in places.items():
            for file, location in some:
                if not is_same(location.proof, looks[location.path], location.trust):
                    # Dropped by note(): who asks waits for files, the database is slow.
                    self._stale.add((file, location.proof))
                elif digest not in found or location.trust > found[digest].trust:
                    found[digest] = location
        own = {one.path for one in found.values() if self._attic.has(one.path)}
        if own:
            self._catalogue.used(own)
        for one in tuple(self._untold):
            found = one.find(digests) | found
        return found

    def known(
        self, files: Sequence[tuple[bytes, os.stat_result]]
    ) -> list[tuple[Chunk, ...] | None]:
        """Tell what files consist of, without reading them.

        Args:
            files: Their absolute real paths, and how they look now.

        Returns:
            For each its chunks, in order; None where that is not proven.
        """
        stats = [stat for _, stat in files]
        return self.known_by([path for path, _ in files], stats.__getitem__)

    def known_by(
        self, paths: Sequence[bytes], look: Callable[[int], os.stat_result | None]
    ) -> list[tuple[Chunk, ...] | None]:
        """Tell what files consist of, looking only at those that something is noted of.

        Args:
            paths: Their absolute real paths.
            look: Gives how the file of that place in ``paths`` looks now.

        Returns:
            As of :meth:`known`.
        """
        rows = self._catalogue.rows(paths)
        found: list[tuple[Chunk, ...] | None] = [None] * len(paths)
        for place, path in enumerate(paths):
            row = rows.get(path)
            if (row is None or row.trust != SOUND) and not self._is_untold(path):
                continue
            stat = look(place)
            if stat is None:
                continue
            row = self._new_row(path, stat) or row
            if row and row.trust == SOUND and pack_proof(stat) == row.proof:
                found[place] = unpack_chunks(row.chunks)
        return found

    def digests(self, files: Sequence[tuple[bytes, int, int]]) -> list[bytes | None]:
        """Give the content digests of files, without looking at them.

        Args:
            files: Their absolute real paths, sizes and mtimes in nanoseconds.

        Returns:
            For each its digest, as :func:`content_digest` makes it, if nothing else
            was noted of it since; None where that is not known. It is as good as size
            and mtime are: who puts back the mtime of what he changes is not seen.
        """
        rows = self._catalogue.rows([path for path, _, _ in files])
        digests: list[bytes | None] = []
        for path, size, mtime_ns in files:
            row = rows.get(path)
            if row and row.trust == SOUND and has_times(row.proof, size, mtime_ns):
                digests.append(_digest_of(row.chunks))
            else:
                digests.append(None)
        return digests

    def tell(self, untold: Untold) -> None:
        """Say what was written and will be noted: it is found from now on."""
        self._untold.append(untold)

    def note_untold(
        self, untold: Untold, see: Callable[[bytes], os.stat_result]
    ) -> None:
        """Note that, a little at a time while others sync.

        Args:
            untold: As in :meth:`tell`.
            see: Looks at a file by its path.
        """
        try:
            self.note(untold.records(see), gives_way=True)
        finally:
            self._untold.remove(untold)

    def note(self, records: Iterable[Record], *, gives_way: bool = False) -> None:
        """Note what files consist of, in place of what was noted of their paths.

        Files that are gone are forgotten on the way, some at each note.

        Args:
            records: What they consist of.
            gives_way: True if a sync that is under way goes before it.
        """
        self.flush()
        rest = iter(records)
        while some := list(itertools.islice(rest, STEP)):
            if gives_way:
                self.syncs.wait_out(STEP_PATIENCE)
            rows = {one.path: _row_of(one) for one in some}
            self._remove(self._catalogue.add(list(rows.values())))
        stale, self._stale = self._stale, set()
        swept = self._catalogue.next_rows(SWEEP)
        stale.update((one.file, one.proof) for one in swept if not _is_true(one))
        self._drop(stale)

    def forget(self, path: bytes) -> None:
        """Forget a file, or all of a folder and below; unknown ones are fine."""
        self._remove(self._catalogue.forget(path))

    def moved(self, old: bytes, new: bytes) -> None:
        """Note that a file or a folder was renamed, and has its content still.

        Args:
            old: The absolute real path that it had.
            new: The one that it has.
        """
        self._catalogue.rename(old, new)

    def keep(
        self, path: bytes, stat: os.stat_result, *, dir_fd: int, name: bytes
    ) -> bool:
        """Link a file into the attic, before it is replaced or deleted.

        Args:
            path: Its absolute real path, by which it is known.
            stat: How it looks now.
            dir_fd: Its folder.
            name: Its name there.

        Returns:
            False if it is not kept: nothing is known of it, it is too large, or it is
            on another file system.
        """
        row = self._new_row(path, stat) or self._catalogue.rows([path]).get(path)
        size = real_size(stat)
        if not stat.st_size or size > self._limit or row is None:
            return False
        if not is_same(row.proof, pack_proof(stat), row.trust):
            return False
        own = self._attic.take(stat, dir_fd=dir_fd, name=name)
        if own is None:
            return False
        with self._lock:
            self._kept.append((row._replace(path=own, trust=LOOSE), size))
            is_full = len(self._kept) >= BATCH
        if is_full:
            self.flush()
        return True

    def flush(self) -> None:
        """Write down what was kept; done by itself before anything is looked up."""
        with self._lock:
            kept, self._kept = self._kept, []
        if kept:
            rows, sizes = [row for row, _ in kept], [size for _, size in kept]
            self._remove(self._catalogue.hold(rows, sizes=sizes, limit=self._limit))

    def close(self) -> None:
        """Write down what was kept, and let go. Twice is fine."""
        self.flush()
        self._catalogue.close()
        self.names.close()
        self._attic.close()

    def _is_untold(self, path: bytes) -> bool:
        return any(path in one for one in self._untold)

    def _new_row(self, path: bytes, stat: os.stat_result) -> Row | None:
        """Give what is to be noted of a file that looks so."""
        records = [one.record(path, stat) for one in self._untold]
        return next((_row_of(one) for one in reversed(records) if one), None)

    def _drop(self, files: Iterable[tuple[int, bytes]]) -> None:
        found = list(files)
        if found:
            self._remove(self._catalogue.drop(found))

    def _remove(self, paths: Iterable[bytes]) -> None:
        for path in paths:
            self._attic.drop(path)


def _digest_of(packed: bytes) -> bytes:
    """Give the content digest of a file from its packed chunks."""
    if len(packed) == CHUNK_SIZE:
        return packed[:DIGEST]
    return content_digest(unpack_chunks(packed))


def _row_of(record: Record) -> Row:
    path, stat, chunks, noted_ns = record
    packed = chunks if isinstance(chunks, bytes) else pack_chunks(chunks)
    return Row(path, pack_proof(stat), rate(stat, noted_ns), packed)


def _is_true(noted: Row) -> bool:
    """Tell if a file looks as it did when it was noted."""
    return is_same(noted.proof, look(noted.path), noted.trust)
