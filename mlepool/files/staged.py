"""One file on its way, and the open descriptors of many."""

from __future__ import annotations

import os
from collections import OrderedDict

from blake3 import blake3

from mlepool.files.base import MAX_CHUNK, Chunk, Offer
from mlepool.files.copying import write_at
from mlepool.files.versions import OldVersion
from mlepool.tree import Entry

__all__ = ["Handles", "Part", "Staged"]

DIGEST_SIZE = 32  # bytes
MAX_OPEN = 32  # files; those written to last
# What files that are done have in common: nothing is ever put in there.
_NOTHING: dict[int, Part] = {}
_NO_COPIES: list[tuple[int, Chunk]] = []
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_FLAGS |= getattr(os, "O_CLOEXEC", 0)


class Part:
    """A chunk that is to be sent.

    Attributes:
        begin: Where it begins.
        chunk: What it is to be.
        received: Its bytes that are here.
        hasher: Of those, if they are not all yet.
    """

    __slots__ = ("begin", "chunk", "hasher", "received")

    def __init__(self, begin: int, chunk: Chunk) -> None:
        self.begin = begin
        self.chunk = chunk
        self.received = 0
        self.hasher: blake3 | None = None

    def take(self, data: bytes) -> bool:
        """Take its next bytes; False if it can't be what was offered any more."""
        self.received += len(data)
        if self.received > self.chunk.length:
            return False
        if self.hasher is None and self.is_whole():
            return blake3(data).digest() == self.chunk.digest
        self.hasher = self.hasher or blake3()
        self.hasher.update(data)
        return not self.is_whole() or self.hasher.digest() == self.chunk.digest

    def is_whole(self) -> bool:
        """Tell if all of its bytes are here."""
        return self.received == self.chunk.length


class Staged:
    """What is known of a file on its way.

    Attributes:
        entry: What it is to be.
        offered: Up to which offset its chunks are known.
        is_offered: True if all are.
        is_done: True if all its content is here.
        is_same: True while it is what the tree has: nothing is staged of it.
        has_holes: True while bytes that were not written are known to be zeros.
        old: The version in the tree, as long as it may be of use.
        compared: What proves that it is unchanged; empty where nothing is the same.
        chunks: All chunks that were offered, in order.
        copied: Those that were copied from the version in the tree, and where to.
        missing: Chunks to be sent, by the offset of their next byte.
        problem: Why it can't be done; empty if it can.
    """

    __slots__ = (
        *("chunks", "compared", "copied", "entry", "has_holes", "is_done"),
        *("is_offered", "is_same", "missing", "offered", "old", "problem"),
    )

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.offered = 0
        self.is_offered = False
        self.is_done = False
        self.is_same = False
        self.has_holes = True
        self.old: OldVersion | None = None
        self.compared = b""
        self.chunks: list[Chunk] = []
        self.copied: list[tuple[int, Chunk]] = []
        self.missing: dict[int, Part] = {}
        self.problem = ""

    @classmethod
    def of_one(cls, entry: Entry, chunk: Chunk) -> Staged:
        """Make one of a file that has come as its only chunk."""
        file = cls.__new__(cls)
        file.entry = entry
        file.offered = chunk.length
        file.is_offered = file.is_done = True
        file.is_same = file.has_holes = False
        file.old = None
        file.compared, file.problem = b"", ""
        file.chunks = [chunk]
        file.copied, file.missing = _NO_COPIES, _NOTHING
        return file

    def check(self, offer: Offer) -> None:
        """Check that an offer goes on where the last one ended, and fits.

        Raises:
            ValueError: If not.
        """
        number, end = offer.number, _end_of(offer)
        for one in offer.chunks:
            if not 0 < one.length <= MAX_CHUNK or len(one.digest) != DIGEST_SIZE:
                raise ValueError(f"file {number} is offered in chunks that can't be")
        if end > self.entry.size or offer.is_last != (end == self.entry.size):
            raise ValueError(f"file {number} is offered in another size")

    def check_repeated(self, offer: Offer) -> None:
        """Check that an offer that does not go on is one that was made before.

        Raises:
            ValueError: If not.
        """
        if not 0 <= offer.offset <= _end_of(offer) <= self.offered:
            raise ValueError(f"file {offer.number} is offered with a gap")

    def settle(self, old: OldVersion | None) -> None:
        """Begin with the version in the tree, which it is the same as until shown."""
        self.old = old
        self.is_same = old is not None

    def add(self, chunk: Chunk) -> None:
        """Note the next chunk that was offered."""
        self.chunks.append(chunk)
        self.offered += chunk.length

    def has_begun(self) -> bool:
        """Tell if anything was offered."""
        return self.is_offered or self.offered > 0

    def is_all_of_old(self) -> bool:
        """Tell if the version in the tree ends where this one does."""
        return self.old is not None and self.old.size == self.offered

    def restart(self, part: Part, at: int) -> None:
        """Have a chunk sent again from its beginning: what came was not it."""
        del self.missing[at]
        self.missing[part.begin] = Part(part.begin, part.chunk)
        self.has_holes = False  # wrong bytes are where zeros might be due

    def finish(self) -> None:
        """Note that all of it is here; there may be a million such files."""
        self.is_done = True
        self.chunks = self.chunks[:]  # without room for more
        self.copied, self.missing = _NO_COPIES, _NOTHING

    def has(self, begin: int, end: int) -> bool:
        """Tell if some bytes are here already."""
        return end <= self.offered and not any(
            begin < one.begin + one.chunk.length and one.begin + one.received < end
            for one in self.missing.values()
        )

    def close(self) -> None:
        """Let go of the version in the tree; twice is fine."""
        if self.old is not None:
            self.compared = self.old.proof if self.is_same else b""
            self.old.close()
            self.old = None


def _end_of(offer: Offer) -> int:
    end = offer.offset
    for one in offer.chunks:  # most often it is one: faster than a sum
        end += one.length
    return end


class Handles:
    """Open descriptors of staged files, by number.

    Args:
        folder: The descriptor of the folder that they are in.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._open: OrderedDict[int, int] = OrderedDict()

    def get(self, number: int) -> int:
        """Give a file's descriptor, good until the next call; made if it is not there.

        Raises:
            OSError: If it can't be.
        """
        fd = self._open.get(number)
        if fd is not None:
            self._open.move_to_end(number)
            return fd
        fd = os.open(str(number), _FLAGS, 0o600, dir_fd=self._folder)
        self._open[number] = fd
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def make_whole(self, number: int, data: bytes, entry: Entry) -> None:
        """Make a file in one go, with its content, its mode and time.

        Raises:
            OSError: If it can't be.
        """
        fd = os.open(str(number), _FLAGS, 0o600, dir_fd=self._folder)
        try:
            write_at(fd, data, 0)
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def close(self, number: int) -> None:
        """Close a file's descriptor, if it is open."""
        fd = self._open.pop(number, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close all of them."""
        while self._open:
            os.close(self._open.popitem()[1])
