"""Content by name: files cut where their content says, each chunk with its BLAKE3.

FastCDC cuts at a place that depends on the bytes around it only, so what was moved
within a file, or into another, has the same chunks. Where a chunk ends depends on
nothing before its beginning: reading may begin at the border of any chunk.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator, Sequence

from blake3 import blake3
from pyfastcdc import FastCDC

from mlepool.files.base import Chunk
from mlepool.files.copying import read_at

__all__ = [
    "AVERAGE",
    "LARGEST",
    "SMALL",
    "chunk_bytes",
    "chunk_file",
    "chunk_part",
    "content_digest",
]

# On these depend the chunks of all files, and so what is found again in any store.
SMALL = 64 * 1024  # bytes; only a file's last chunk is smaller: such a file has one
AVERAGE = 256 * 1024
LARGEST = 768 * 1024
BLOCK = 2 * 1024 * 1024  # bytes held of a file: more is no faster
SECTOR = 512  # bytes: the unit of st_blocks

_cutter = FastCDC(AVERAGE, min_size=SMALL, max_size=LARGEST)


def chunk_file(
    fd: int, *, offset: int = 0, limit: int | None = None
) -> Iterator[tuple[int, Chunk]]:
    """Cut an open file into chunks, reading block by block; for a thread of its own.

    The descriptor's position does not matter. Holes are not read. The interpreter's
    lock is let go while a block is read, cut or hashed. What is added to the file
    after it was begun is not read.

    Args:
        fd: The file.
        offset: Where to begin, in bytes: 0, or the border of a chunk.
        limit: Begin no chunk that many bytes after the offset, or later; None for all
            up to the end.

    Yields:
        Where a chunk begins, and the chunk: whole, also where it reaches beyond the
        limit. Nothing for an empty file.

    Raises:
        OSError: If the file can't be read.
    """
    stop = None if limit is None else offset + limit
    for begin, chunk in _all_chunks(fd, offset, stop):
        if stop is not None and begin >= stop:
            return
        yield begin, chunk


def chunk_part(
    fd: int, *, offset: int, limit: int
) -> tuple[list[Chunk], memoryview | None]:
    """Cut a part of an open file, as :func:`chunk_file` does, and keep what was read.

    Returns:
        The chunks, in order, and their bytes; None of a file with holes.
    """
    stat = os.fstat(fd)
    if stat.st_blocks * SECTOR < stat.st_size:
        return [chunk for _, chunk in chunk_file(fd, offset=offset, limit=limit)], None
    end = min(stat.st_size, offset + limit + LARGEST)
    data = memoryview(read_at(fd, offset, max(0, end - offset)))
    is_all = len(data) < end - offset or end == stat.st_size
    chunks = list(_cut(data, is_all=is_all, limit=limit))
    return chunks, data[: sum(one.length for one in chunks)]


def chunk_bytes(data: bytes) -> tuple[Chunk, ...]:
    """Cut the whole content of a file, as :func:`chunk_file` does."""
    if len(data) <= SMALL:
        return (Chunk(blake3(data).digest(), len(data)),) if data else ()
    return tuple(_named(one.data) for one in _cutter.cut_buf(data))


def content_digest(chunks: Sequence[Chunk]) -> bytes:
    """Name a file's whole content by its chunks.

    It is the digest of the only chunk, so BLAKE3 of the content of a small file; or
    BLAKE3 of the digests of all of them, one after the other, which for an empty file
    is that of nothing.
    """
    if len(chunks) == 1:
        return chunks[0].digest
    return blake3(b"".join([one.digest for one in chunks])).digest()


def _all_chunks(fd: int, offset: int, stop: int | None) -> Iterator[tuple[int, Chunk]]:
    stat = os.fstat(fd)
    end = stat.st_size if stop is None else min(stat.st_size, stop + LARGEST)
    is_sparse = stat.st_blocks * SECTOR < stat.st_size
    block = memoryview(bytearray(max(0, min(BLOCK, end - offset))))
    held = 0
    while offset < end:
        if is_sparse and (zeros := _zeros_at(fd, offset, end)):
            yield from zeros
            offset, held = zeros[-1][0] + zeros[-1][1].length, 0
            continue
        room = min(len(block), end - offset)
        held += _fill(fd, block[held:room], offset + held)
        is_all = held < room or offset + held == stat.st_size
        used = 0
        for chunk in _cut(block[:held], is_all=is_all):
            yield offset + used, chunk
            used += chunk.length
        if used == 0:
            return  # the file became shorter, or what follows lies beyond the stop
        offset, held = offset + used, held - used
        block[:held] = block[used : used + held]


def _fill(fd: int, room: memoryview, offset: int) -> int:
    """Read until there is no room, or no more; gives how much."""
    filled = 0
    while filled < len(room):
        count = os.preadv(fd, [room[filled:]], offset + filled)
        if count == 0:
            break
        filled += count
    return filled


def _cut(
    data: memoryview, *, is_all: bool, limit: int | None = None
) -> Iterator[Chunk]:
    """Cut what is certain: where more follows, a chunk that it can't change."""
    cuts = iter(_cutter.cut_buf(data))
    rest = len(data)
    least = 0 if limit is None else len(data) - limit
    while rest > least and (rest >= LARGEST or (is_all and rest)):
        chunk = _named(next(cuts).data)
        rest -= chunk.length
        yield chunk


def _named(data: memoryview) -> Chunk:
    return Chunk(blake3(data).digest(), len(data))


def _zeros_at(fd: int, offset: int, end: int) -> list[tuple[int, Chunk]]:
    """Give the chunks of a hole without reading it; none if it is no large one."""
    try:
        hole_end = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            return []  # can't say: read it
        hole_end = end
    zero = _zero_chunk()
    begins = range(offset, min(hole_end, end) - LARGEST + 1, zero.length)
    return [(begin, zero) for begin in begins]


@functools.cache
def _zero_chunk() -> Chunk:
    """Give the first chunk of at least so many zeros that no more could change it."""
    return next(_cut(memoryview(bytes(LARGEST)), is_all=False))
