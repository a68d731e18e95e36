"""The version of a file that is in a tree already: what of a new one it has."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlepool.files.base import Chunk
from mlepool.files.chunks import chunk_file
from mlepool.files.proofs import pack_proof

__all__ = ["OldVersion"]

AHEAD = 256 * 1024 * 1024  # bytes: what moved further towards the front is sent again


class OldVersion:
    """An open file, cut into chunks no further than it is needed.

    Args:
        fd: The file; closed by :meth:`close`.
        chunks: All of them, if they are known.

    Attributes:
        fd: The file.
        size: Its bytes.
        proof: How it looked when it was opened.
    """

    def __init__(self, fd: int, chunks: Sequence[Chunk] | None = None) -> None:
        self.fd = fd
        seen = os.fstat(fd)
        self.size, self.proof = seen.st_size, pack_proof(seen)
        self._begins: dict[int, bytes] = {}
        self._places: dict[bytes, int] = {}
        self._read_to = 0
        if chunks is None:
            self._cuts = chunk_file(fd)
        else:
            self._cuts = iter(())
            for one in chunks:
                self._note(self._read_to, one)

    def has_at(self, offset: int, chunk: Chunk) -> bool:
        """Tell if it has a chunk at the same place."""
        self._read(offset + chunk.length)
        return self._begins.get(offset) == chunk.digest

    def find(self, offset: int, digest: bytes) -> int | None:
        """Tell where it has a chunk that a new version has at an offset."""
        if digest not in self._places:
            self._read(offset + AHEAD)
        return self._places.get(digest)

    def is_unchanged(self) -> bool:
        """Tell if nobody has written to it since it was opened."""
        return pack_proof(os.fstat(self.fd)) == self.proof

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read(self, end: int) -> None:
        while self._read_to < end:
            try:
                found = next(self._cuts, None)
            except OSError:  # what can't be read is sent
                found = None
            if found is None:
                self._read_to = max(end, self.size)
                return
            self._note(*found)

    def _note(self, offset: int, chunk: Chunk) -> None:
        self._begins[offset] = chunk.digest
        self._places.setdefault(chunk.digest, offset)
        self._read_to = offset + chunk.length
