"""What a file consists of, found out part by part."""

from __future__ import annotations

import bisect
import os
from array import array
from collections.abc import Sequence

from mlepool.files.base import Chunk
from mlepool.files.catalogue import CHUNK_SIZE, pack_chunks, unpack_chunks
from mlepool.files.proofs import pack_proof

__all__ = ["PART_CHUNKS", "Description"]

PART_CHUNKS = 2048  # given at a time: 80 KB, and 512 MB of a file


class Description:
    """The chunks of a file, as far as it was read.

    Args:
        stat: How it looked.
        noted_ns: What :func:`mlepool.files.proofs.file_clock` said before that.

    Attributes:
        proof: How it looked.
        end: Up to where it was read, bytes.
        packed: All chunks.
    """

    def __init__(self, stat: os.stat_result, noted_ns: int) -> None:
        self.stat = stat
        self.proof = pack_proof(stat)
        self.noted_ns = noted_ns
        self.end = 0
        self.packed = b""
        self._begins = array("Q")

    @property
    def is_whole(self) -> bool:
        """True if it was read to the end."""
        return self.end == self.stat.st_size

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Add what follows."""
        self.packed += pack_chunks(chunks)
        for chunk in chunks:
            self._begins.append(self.end)
            self.end += chunk.length

    def part(self, offset: int) -> tuple[Chunk, ...]:
        """Give the chunks from an offset on: not too many.

        Raises:
            ValueError: If none begins there.
        """
        at = bisect.bisect_left(self._begins, offset)
        if offset != self.end and self._begins[at : at + 1] != array("Q", [offset]):
            raise ValueError(f"no chunk begins at {offset}")
        return unpack_chunks(
            self.packed[at * CHUNK_SIZE : (at + PART_CHUNKS) * CHUNK_SIZE]
        )
