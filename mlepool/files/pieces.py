"""Pieces: bytes of files for their way, packed where that is a gain."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from mlepool.files.base import Piece
from mlepool.files.packs import SAMPLE, Packing, make_piece, pays
from mlepool.files.recent import Recent
from mlepool.files.small import ChangedError

__all__ = ["BARE_PIECE", "OVERHEAD", "PIECE", "OpenFile", "Pieces"]

PIECE = 112 * 1024  # bytes: with what is said of it, it fits a frame of 128 KiB
BARE_PIECE = 448 * 1024  # bytes: an answer's, over a link so fast that each one costs
READ = 16 * 1024 * 1024  # bytes that were read to be described, and are soon asked for
SHARED = 16 * 1024 * 1024  # bytes of pieces that are held for others who read the same
SAMPLED = 256  # files of which it is remembered whether packing pays
OVERHEAD = 500  # bytes that holding a small file takes besides its content


class OpenFile(NamedTuple):
    """An open file; ``noted_ns``: what the clock of files said before it was opened."""

    path: bytes
    fd: int
    stat: os.stat_result
    noted_ns: int


class Pieces:
    """Makes the pieces of one tree's files.

    Args:
        is_shared: Several read the same files: some MiB of pieces are held for the
            others.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._held: Recent[Piece] = Recent(SHARED if is_shared else 0)
        self._read: Recent[memoryview] = Recent(0 if is_shared else READ)
        self._pays: Recent[bool] = Recent(SAMPLED)
        self._packing = Packing()

    def held(self, number: int, key: Hashable) -> Piece | None:
        """Give a piece that was made of late under another number, if it is held."""
        piece = self._held.get(key) if self._is_shared else None
        return None if piece is None else msgspec.structs.replace(piece, number=number)

    def whole(self, number: int, key: Hashable, data: bytes, *, pack: bool) -> Piece:
        """Make a small file's content a piece."""
        if pack:
            piece = self._packing.make_piece(number, data)
        else:
            piece = Piece(number, 0, data)
        if self._is_shared:
            self._held.put(key, piece, size=len(piece.data) + OVERHEAD)
        return piece

    def of_ranges(
        self,
        file: OpenFile,
        number: int,
        ranges: Sequence[tuple[int, int]],
        *,
        pack: bool,
    ) -> Iterator[Piece]:
        """Make ranges (offset, length) of a file pieces, in their order.

        Those that are not to be packed are larger: but not where links share them, of
        which some may want them packed.

        Raises:
            ChangedError: If the file is shorter by now.
            OSError: If it can't be read.
        """
        does_pay = pack and self._does_pay(file)
        most = PIECE if pack or self._is_shared else BARE_PIECE
        for begin, length in ranges:
            for at in range(begin, begin + length, most):
                size = min(most, begin + length - at)
                key = file.path, file.stat.st_ctime_ns, at, size
                piece = self.held(number, key)
                if piece is None:
                    data = self._bytes(file, at, size)
                    piece = make_piece(number, at, data, is_packing=does_pay)
                    self._held.put(key, piece, size=len(data) + OVERHEAD)
                yield piece

    def hold(self, file: OpenFile, offset: int, data: memoryview) -> None:
        """Take bytes that were read to describe them: they need not be read again."""
        key = file.path, file.stat.st_ctime_ns, offset
        self._read.put(key, data, size=len(data))

    def clear(self) -> None:
        """Let go of all."""
        self._held.clear()
        self._read.clear()

    def _bytes(self, file: OpenFile, offset: int, size: int) -> bytes | memoryview:
        key = file.path, file.stat.st_ctime_ns, offset
        read = self._read.get(key)
        if read is None or len(read) < size:
            data = os.pread(file.fd, size, offset)
            if len(data) != size:
                raise ChangedError
            return data
        self._read.drop(key)
        if len(read) > size:
            self.hold(file, offset + size, read[size:])
        return read[:size]

    def _does_pay(self, file: OpenFile) -> bool:
        """Tell by a file's beginning if it is to be packed."""
        known = self._pays.get(file.path)
        if known is None:
            known = pays(os.pread(file.fd, SAMPLE, 0))
            self._pays.put(file.path, known)
        return known
