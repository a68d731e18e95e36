"""Files that were just written, until the store has noted what they consist of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mlepool.files.base import Chunk
from mlepool.files.proofs import RACY, Location, Record, look

__all__ = ["NewFile", "Untold"]


class NewFile(NamedTuple):
    """A file that was written.

    Attributes:
        chunks: What it consists of.
        mtime_ns: What it got for a time.
    """

    chunks: Sequence[Chunk]
    mtime_ns: int


class Untold:
    """What one commit has written.

    Args:
        files: By their absolute real paths.
        ended_ns: What :func:`~mlepool.files.proofs.file_clock` said after that.
    """

    def __init__(self, files: dict[bytes, NewFile], ended_ns: int) -> None:
        self._files = files
        self._ended_ns = ended_ns
        self._places: dict[bytes, tuple[bytes, int, int]] = {}

    def __contains__(self, path: bytes) -> bool:
        return path in self._files

    def record(self, path: bytes, stat: os.stat_result) -> Record | None:
        """Tell what a file of these consists of that looks so; None if it is another.

        Who has written to it since has changed its time as well; or put that back: its
        ctime is no earlier than the commit's end.
        """
        file = self._files.get(path)
        if file is None or stat.st_mtime_ns != file.mtime_ns:
            return None
        return Record(path, stat, file.chunks, self._ended_ns)

    def records(self, see: Callable[[bytes], os.stat_result]) -> Iterator[Record]:
        """Look at all of them, as far as they are there still."""
        for path in self._files:
            try:
                stat = see(path)
            except OSError:
                continue
            record = self.record(path, stat)
            if record is not None:
                yield record

    def find(self, digests: Iterable[bytes]) -> dict[bytes, Location]:
        """Tell where chunks are, if they are in one of these; to be hashed again."""
        places = self._places or self._index()
        found: dict[bytes, Location] = {}
        for digest in digests:
            if digest in places:
                path, offset, length = places[digest]
                proof = look(path)
                if proof is not None:
                    found[digest] = Location(path, offset, length, proof, RACY)
        return found

    def _index(self) -> dict[bytes, tuple[bytes, int, int]]:
        for path, file in self._files.items():
            offset = 0
            for chunk in file.chunks:
                self._places[chunk.digest] = path, offset, chunk.length
                offset += chunk.length
        return self._places
