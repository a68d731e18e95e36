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
        self._read = _Parts(READ)
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
        """Take a part that was read to be described: it need not be read again."""
        self._read.put(_version_of(file), offset, data)

    def clear(self) -> None:
        """Let go of all."""
        self._held.clear()
        self._read.clear()

    def _bytes(self, file: OpenFile, offset: int, size: int) -> bytes | memoryview:
        version = _version_of(file)
        read = self._read.find(version, offset, size)
        if read is None:
            data = os.pread(file.fd, size, offset)
            if len(data) != size:
                raise ChangedError
            return data
        if self._is_shared:
            return bytes(read)  # what is held for others does not hold the part with it
        self._read.used(version, offset, size)
        return read

    def _does_pay(self, file: OpenFile) -> bool:
        """Tell by a file's beginning if it is to be packed."""
        known = self._pays.get(file.path)
        if known is None:
            known = pays(os.pread(file.fd, SAMPLE, 0))
            self._pays.put(file.path, known)
        return known


class _Part:
    """A part of a file.

    Attributes:
        left: Bytes that were not used yet.
    """

    __slots__ = ("begin", "data", "file", "left")

    def __init__(self, file: Hashable, begin: int, data: memoryview) -> None:
        self.file = file
        self.begin = begin
        self.data = data
        self.left = len(data)

    def has(self, offset: int, size: int) -> bool:
        """Tell if it has all of these bytes."""
        return 0 <= offset - self.begin <= len(self.data) - size


class _Parts:
    """Parts of files that were read of late; the first to come go first.

    Args:
        limit: Bytes that all of them may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._parts: dict[Hashable, list[_Part]] = {}
        self._order: dict[_Part, None] = {}

    def put(self, file: Hashable, begin: int, data: memoryview) -> None:
        """Keep a part for a while."""
        part = _Part(file, begin, data)
        self._parts.setdefault(file, []).append(part)
        self._order[part] = None
        self._size += len(data)
        while self._size > self._limit:
            self._drop(next(iter(self._order)))

    def find(self, file: Hashable, offset: int, size: int) -> memoryview | None:
        """Give bytes of one part; None if they are not there any more."""
        for part in self._parts.get(file, ()):
            if part.has(offset, size):
                return part.data[offset - part.begin :][:size]
        return None

    def used(self, file: Hashable, offset: int, size: int) -> None:
        """Let go of a part once as many bytes of it were used as it has."""
        for part in self._parts.get(file, ()):
            if part.has(offset, size):
                part.left -= size
                if part.left <= 0:
                    self._drop(part)
                return

    def clear(self) -> None:
        """Let go of all."""
        self._order.clear()
        self._parts.clear()
        self._size = 0

    def _drop(self, part: _Part) -> None:
        del self._order[part]
        self._size -= len(part.data)
        parts = self._parts[part.file]
        parts.remove(part)
        if not parts:
            del self._parts[part.file]


def _version_of(file: OpenFile) -> tuple[bytes, int]:
    return file.path, file.stat.st_ctime_ns
