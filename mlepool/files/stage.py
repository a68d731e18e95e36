"""Files on their way: put together from chunks in a folder that is not their tree.

Each chunk is hashed when it is whole. What is here already is not sent: chunks of the
version that is in the tree, of other files that are known, and of what a session that
died had received.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from blake3 import blake3

from mlepool.files.base import Chunk, Offer, Piece
from mlepool.files.chunks import LARGEST, chunk_bytes
from mlepool.files.copying import (
    HOLE,
    Range,
    copy_if_unchanged,
    read_at,
    read_if_there,
    write_at,
    write_sparse,
)
from mlepool.files.leftovers import ChunkLog, Place, StagedChunk
from mlepool.files.packs import unpack
from mlepool.files.staged import Handles, Part, Staged
from mlepool.files.versions import OldVersion
from mlepool.tree import FILE, Entry

__all__ = ["Stage"]

CHANGED = "changed in the target while it was read there"
WORTH_KNOWING = 16 * 1024  # bytes; this session's smaller chunks are sent twice


class _Wanted(NamedTuple):
    """A chunk that is to be found: of which file, and where in it."""

    number: int
    offset: int
    chunk: Chunk


class Stage:
    """Puts files together, by number.

    Args:
        folder: The descriptor of the folder to do it in: ours alone, and empty.
        find: Tells where chunks are, as far as it is known.
        open_old: Opens the version of a file that is in the tree, if it may be of use.

    Attributes:
        reused: Bytes that were found here.
    """

    def __init__(
        self,
        folder: int,
        *,
        find: Callable[[Sequence[bytes]], Mapping[bytes, Place]],
        open_old: Callable[[Entry], OldVersion | None],
    ) -> None:
        self._folder = folder
        self._find = find
        self._open_old = open_old
        self._expected: dict[int, Entry] = {}
        self._files: dict[int, Staged] = {}  # those that were offered, in part or whole
        self._handles = Handles(folder)
        self._log = ChunkLog(folder)
        self._own: dict[bytes, StagedChunk] = {}
        self.reused = 0

    def expect(self, first: int, entries: Sequence[Entry]) -> None:
        """Take notice of files; again is fine."""
        for number, entry in enumerate(entries, first):
            if entry.kind != FILE or entry.size < 0 or number < 0:
                raise ValueError(f"not a file that can be expected: {entry}")
            if self._expected.setdefault(number, entry) != entry:
                raise ValueError(f"file {number} is expected to be another")

    def offer(self, offers: Sequence[Offer]) -> list[list[int]]:
        """Take what is here of files, and tell which chunks are to be sent."""
        self._look_around(self._learn(offers))
        return [self._end(one) for one in offers]

    def write(self, pieces: Sequence[Piece], *, offers: Sequence[Offer] = ()) -> None:
        """Take bytes of chunks that are to be sent; again is fine.

        Args:
            pieces: The bytes.
            offers: Files that were not offered, each with a piece: of these, nothing
                is looked for.
        """
        new = {one.number: one for one in offers}
        try:
            for piece in pieces:
                offer = new.pop(piece.number, None)
                if offer is None:
                    self._take(piece)
                elif not self._take_whole(piece, offer):
                    self._learn([offer])
                    self._end(offer)
                    self._take(piece)
        finally:
            self._log.flush()

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget files; unknown ones are fine."""
        for number in numbers:
            self._expected.pop(number, None)
            file = self._files.pop(number, None)
            if file is not None:
                self._discard(number, file)

    def results(self) -> Iterator[tuple[int, Staged]]:
        """Give all files, by number, with what became of them.

        Raises:
            ValueError: If one is not whole.
        """
        for number in self._expected:
            file = self._files.get(number)
            if file is None or not (file.is_done or file.problem):
                raise ValueError(f"file {number} has not come as a whole")
            yield number, file

    def close(self) -> None:
        """Close all files; those in the folder are left as they are."""
        for file in self._files.values():
            file.close()
        self._handles.close_all()
        self._log.close()

    def _file(self, number: int) -> Staged:
        file = self._files.get(number)
        if file is None:
            try:
                file = Staged(self._expected[number])
            except KeyError:
                raise ValueError(f"no file {number} is expected") from None
            self._files[number] = file
        return file

    def _learn(self, offers: Sequence[Offer]) -> list[_Wanted]:
        """Take what the versions in the tree have; give what they have not."""
        wanted: list[_Wanted] = []
        for offer in offers:
            file = self._file(offer.number)
            if offer.offset == file.offered and not file.is_offered:
                wanted += self._begin(file, offer)
            else:
                file.check_repeated(offer)
        return wanted

    def _begin(self, file: Staged, offer: Offer) -> Iterator[_Wanted]:
        """Take what the version in the tree has; give what it has not."""
        file.check(offer)
        if not file.has_begun():
            file.settle(self._open_old(file.entry))
        for chunk in offer.chunks:
            if not self._take_from_old(file, offer.number, chunk):
                yield _Wanted(offer.number, file.offered, chunk)
                # Until it is found: whatever fails in between, it is not here.
                file.missing[file.offered] = Part(file.offered, chunk)
            file.add(chunk)
        file.is_offered = offer.is_last
        if file.is_offered and file.is_same and not file.is_all_of_old():
            self._differ(file, offer.number)

    def _take_from_old(self, file: Staged, number: int, chunk: Chunk) -> bool:
        if file.is_same and file.old is not None:
            if file.old.has_at(file.offered, chunk):
                return True
            self._differ(file, number)
        if chunk == _zero_chunk() and file.has_holes:  # nothing needs to be written
            self.reused += chunk.length
            return True
        if file.old is None:
            return False
        begin = file.old.find(file.offered, chunk.digest)
        if begin is None:
            return False
        range_ = Range(file.old.fd, begin, file.offered, chunk.length)
        is_copied = self._copy_range(file, number, range_)
        if is_copied:
            file.copied.append((file.offered, chunk))
        return is_copied

    def _differ(self, file: Staged, number: int) -> None:
        """Stage what was the same as in the tree so far."""
        if file.old is not None and file.offered:
            range_ = Range(file.old.fd, 0, 0, file.offered)
            if not self._copy_range(file, number, range_):
                file.problem = CHANGED
        at = 0
        for chunk in file.chunks:
            file.copied.append((at, chunk))
            at += chunk.length
        file.is_same = False

    def _look_around(self, wanted: Sequence[_Wanted]) -> None:
        """Take what other files have; the rest is to be sent."""
        if not wanted:
            return
        places = self._find([one.chunk.digest for one in wanted])
        for one in wanted:
            digest = one.chunk.digest
            place = self._own.get(digest) or places.get(digest)
            if place is not None and self._copy(one, place):
                del self._files[one.number].missing[one.offset]

    def _copy(self, wanted: _Wanted, place: Place) -> bool:
        """Copy a chunk; False if it is not there any more."""
        source = place.open()
        if source is None:
            return False
        file, (number, at, chunk) = self._files[wanted.number], wanted
        try:
            if place.is_proven:
                range_ = Range(source, place.offset, at, chunk.length)
                return self._copy_range(file, number, range_)
            data = read_if_there(source, place.offset, chunk.length)
        finally:
            os.close(source)
        if blake3(data).digest() != chunk.digest:
            return False
        write = write_sparse if file.has_holes else write_at
        write(self._handles.get(number), data, at)
        self.reused += chunk.length
        return True

    def _copy_range(self, file: Staged, number: int, range_: Range) -> bool:
        """Copy from a file that others may change; False if they have."""
        had_holes, file.has_holes = file.has_holes, False  # should it fail
        if not copy_if_unchanged(self._handles.get(number), range_):
            return False
        file.has_holes = had_holes
        self.reused += range_.length
        return True

    def _end(self, offer: Offer) -> list[int]:
        """Finish what needs nothing more; give the indexes of chunks to be sent."""
        number = offer.number
        file = self._files[number]
        if file.is_offered and not file.is_done:
            if file.old is not None:
                self._end_old(file, number)
            if not file.missing:
                self._finish(file, number)
        return _lacking(file, offer) if file.missing else []

    def _end_old(self, file: Staged, number: int) -> None:
        """Let go of the version in the tree, and see that it is as it was."""
        old = file.old
        if old and not old.is_unchanged() and not self._is_sound(file, number):
            file.problem = CHANGED
        if file.is_same:
            self.reused += file.entry.size
        file.close()

    def _is_sound(self, file: Staged, number: int) -> bool:
        """Hash again what was copied from a file that has changed since."""
        if file.is_same:
            return False
        fd = self._handles.get(number)
        return all(
            blake3(read_at(fd, offset, chunk.length)).digest() == chunk.digest
            for offset, chunk in file.copied
        )

    def _take_whole(self, piece: Piece, offer: Offer) -> bool:
        """Take a small file that is new here; False if it is none, or is wrong."""
        number, data = piece.number, piece.data
        entry = self._expected.get(number)
        if entry is None or number in self._files or self._has_old(entry):
            return False
        if piece.packed or piece.offset or not len(data) == entry.size < HOLE:
            return False
        chunk = Chunk(blake3(data).digest(), len(data))
        if offer.chunks != (chunk,) or offer.offset or not offer.is_last:
            return False
        self._handles.make_whole(number, data, entry)
        self._files[number] = Staged.of_one(entry, chunk)
        self._note(chunk, number, 0)
        return True

    def _has_old(self, entry: Entry) -> bool:
        old = self._open_old(entry)
        if old is not None:
            old.close()
        return old is not None

    def _take(self, piece: Piece) -> None:
        file = self._file(piece.number)
        data = unpack(piece.data, piece.packed) if piece.packed else piece.data
        part = file.missing.get(piece.offset)
        if part is None or not data:
            if not data or not file.has(piece.offset, piece.offset + len(data)):
                raise ValueError(f"file {piece.number} needs no such piece")
            return
        fd = self._handles.get(piece.number)
        if not part.take(data):
            file.restart(part, piece.offset)
            raise ValueError(f"a piece of file {piece.number} is not what was offered")
        write = write_sparse if file.has_holes else write_at
        write(fd, data, piece.offset)
        del file.missing[piece.offset]
        if part.is_whole():
            self._note(part.chunk, piece.number, part.begin)
        else:
            file.missing[piece.offset + len(data)] = part
        if file.is_offered and not file.missing:
            self._finish(file, piece.number)

    def _note(self, chunk: Chunk, number: int, begin: int) -> None:
        """Write down that a chunk is here: in this session, or another, it serves."""
        self._log.note(chunk, number, begin)
        if chunk.length >= WORTH_KNOWING:
            self._own[chunk.digest] = StagedChunk(self._folder, number, begin)

    def _finish(self, file: Staged, number: int) -> None:
        """Give a whole file its size, mode and time."""
        file.finish()
        if file.is_same or file.problem:
            return
        entry = file.entry
        fd = self._handles.get(number)
        if entry.size >= HOLE and os.fstat(fd).st_size != entry.size:
            os.ftruncate(fd, entry.size)  # it ends with a hole
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        self._handles.close(number)

    def _discard(self, number: int, file: Staged) -> None:
        file.close()
        self._handles.close(number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(str(number), dir_fd=self._folder)


def _lacking(file: Staged, offer: Offer) -> list[int]:
    """Give the indexes of an offer's chunks that are to be sent."""
    begins = {part.begin for part in file.missing.values()}
    lacking, at = [], offer.offset
    for index, chunk in enumerate(offer.chunks):
        if at in begins:
            lacking.append(index)
        at += chunk.length
    return lacking


@functools.cache
def _zero_chunk() -> Chunk:
    """Give the chunk that a long run of zeros consists of."""
    return chunk_bytes(bytes(2 * LARGEST))[0]
