"""Content packed for its way, where that pays: each piece a zstd frame of its own."""

from __future__ import annotations

import threading
from typing import cast

import zstandard

from mlepool.files.base import Piece

__all__ = ["SAMPLE", "Packing", "make_piece", "pack", "pays", "unpack"]

LEVEL = 1  # twice as fast as 3 on pieces of 112 KiB, and 5 % larger
SAMPLE = 64 * 1024  # bytes of a file that tell for all of it
LEAST = 256  # bytes; less is not worth a frame's header and our time
WORTH = 0.9  # of the size; what shrinks by less than a tenth is sent as it is
MISSES = 16  # small files in a row that did not shrink, after which
PROBE = 8  # only each so many is tried: a try takes as long as reading the file


class _Local(threading.local):
    """A compressor for each thread: they can't be shared."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(level=LEVEL)
        self.unpacker = zstandard.ZstdDecompressor()


_local = _Local()


def pays(sample: bytes) -> bool:
    """Tell by a file's first :data:`SAMPLE` bytes if it is to be packed."""
    return pack(sample[:SAMPLE]) is not None


def pack(data: bytes | memoryview) -> bytes | None:
    """Make a zstd frame of some bytes; None if that is no gain."""
    if len(data) < LEAST:
        return None
    packed = _local.packer.compress(data)
    return packed if len(packed) <= len(data) * WORTH else None


def make_piece(
    number: int, offset: int, data: bytes | memoryview, *, is_packing: bool
) -> Piece:
    """Make bytes of a file a piece; packed, if that is wanted and a gain."""
    packed = pack(data) if is_packing else None
    if packed is None:
        return Piece(number, offset, cast(bytes, data))  # what is sent may be a view
    return Piece(number, offset, packed, len(data))


class Packing:
    """Packs small files, one after the other: where none shrinks, few are tried."""

    def __init__(self) -> None:
        self._misses = 0

    def make_piece(self, number: int, data: bytes) -> Piece:
        """Make a whole file a piece."""
        is_tried = self._misses < MISSES or self._misses % PROBE == 0
        piece = make_piece(number, 0, data, is_packing=is_tried)
        self._misses = 0 if piece.packed else self._misses + 1
        return piece


def unpack(data: bytes, size: int) -> bytes:
    """Unpack a zstd frame.

    Args:
        data: The frame, and nothing else.
        size: How many bytes it unpacks to; no more are made of it, whatever it says.

    Raises:
        ValueError: If it is no such frame.
    """
    try:
        says = zstandard.frame_content_size(data)
        if says != size:
            raise ValueError(f"a packed piece says {says} bytes, not {size}")
        unpacked = _local.unpacker.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise ValueError(f"a piece can't be unpacked: {exc}") from exc
    if len(unpacked) != size:
        raise ValueError(f"a packed piece has {len(unpacked)} bytes, not {size}")
    return unpacked
