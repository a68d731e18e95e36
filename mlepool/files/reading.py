"""Reads files of a tree, and sees that they stay as they were; blocking."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import structs

from mlepool.files.base import Chunk, Offer, Piece, Problem, Scan, SourceOptions
from mlepool.files.chunks import SMALL, chunk_part
from mlepool.files.descent import Root, locate_root, open_real, places_of
from mlepool.files.description import Description
from mlepool.files.ignore import pick
from mlepool.files.notes import Notes
from mlepool.files.pieces import OVERHEAD, PIECE, OpenFile, Pieces
from mlepool.files.proofs import READ_FLAGS, file_clock, looks, pack_proof, settle
from mlepool.files.recent import Recent
from mlepool.files.scan import scan_tree
from mlepool.files.small import ChangedError, is_as_said, read_small
from mlepool.files.store import Store
from mlepool.tree import Entry, Group, make_groups, make_outline

__all__ = ["CHANGED", "VANISHED", "TreeReader"]

CHANGED = "it was changed meanwhile"
VANISHED = "it vanished"

PART = 4 * 1024 * 1024  # bytes of a file that are described while others are sent
KEPT = 16 * 1024 * 1024  # bytes of small files that are held until they are asked for
DESCRIBED = 256  # files whose descriptions are held


class TreeReader:
    """Describes and reads the files of one tree; for one thread at a time.

    Args:
        path: The tree's root.
        options: How to look at it.
        store: What is known of its files, and is told more; it stays open.
        is_shared: Several read the same files: hold what was read for the others.
        own: Folders of ours, with secrets in them: they are left out.
        allowed: Folders that the root must be in, or be; none: anywhere.
        closed: Folders that nothing is read in.
    """

    def __init__(
        self,
        path: str | bytes,
        options: SourceOptions,
        *,
        store: Store | None = None,
        is_shared: bool = False,
        own: Sequence[Path] = (),
        allowed: Sequence[Path] = (),
        closed: Sequence[Path] = (),
    ) -> None:
        self._path = path
        self._own = own
        self._allowed = [os.fsencode(one) for one in allowed]
        self._closed = closed
        self._options = options
        self._is_shared = is_shared
        self._root: Root | None = None
        self._described: Recent[Description] = Recent(DESCRIBED)
        self._small: Recent[tuple[Entry, bytes, tuple[Chunk, ...]]] = Recent(KEPT)
        self._pieces = Pieces(is_shared=is_shared)
        self._clock = 0
        self._notes = Notes(store)

    def scan(self) -> Scan:
        """List the tree, and read what is there now from then on.

        Raises:
            FileNotFoundError: If there is nothing.
            NotADirectoryError: If it is not a folder.
        """
        self._notes.write()
        root = self._open()
        options = self._options
        scan = scan_tree(
            root.fd,
            exclude=options.exclude,
            ignore_files=options.ignore_files,
            own=places_of(self._own),
        )
        if options.include:
            scan = pick(scan, options.include)
        return structs.replace(scan, outline=make_outline(scan.entries))

    def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Name the chunks of a file from an offset on, up to some MiB.

        Raises:
            ValueError: If no chunk begins at the offset.
        """
        try:
            chunks = self._chunks(entry, offset)
        except (OSError, ChangedError) as exc:
            return _problem(entry, exc)
        end = offset + sum(one.length for one in chunks)
        return Offer(number, offset, chunks, is_last=end == entry.size)

    def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Name the chunks of whole files, and hold the content of what is read."""
        self._clock = file_clock()
        small = [(number, one) for number, one in entries if one.size <= SMALL]
        known = self._known([one for _, one in small])
        found = {one[0]: some for one, some in zip(small, known, strict=True)}
        return [
            Offer(number, 0, chunks)
            if (chunks := found.get(number)) is not None
            else self._describe_whole(number, entry)
            for number, entry in entries
        ]

    def read(
        self,
        entry: Entry,
        number: int,
        *,
        ranges: Sequence[tuple[int, int]],
        pack: bool = True,
    ) -> list[Piece] | Problem:
        """Read ranges (offset, length) of a file; packed, if that is wanted and a gain.

        Raises:
            ValueError: If one is not within it.
        """
        for offset, length in ranges:
            if offset < 0 or length < 0 or offset + length > entry.size:
                raise ValueError(f"not within a file of {entry.size} bytes")
        try:
            with self._opened(entry) as file:
                self._compare(file)
                return list(self._pieces.of_ranges(file, number, ranges, pack=pack))
        except (OSError, ChangedError) as exc:
            return _problem(entry, exc)

    def read_many(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[Piece | Problem]:
        """Read whole files; packed as in :meth:`read`.

        Raises:
            ValueError: If one is larger than a piece may be.
        """
        if any(entry.size > PIECE for _, entry in entries):
            raise ValueError(f"a file has more than {PIECE} bytes")
        self._clock = file_clock()
        return [self._read_whole(*one, pack=pack) for one in entries]

    def read_new(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[tuple[Offer, Piece] | Problem]:
        """Describe and read whole small files; none of them is looked up."""
        self._clock = file_clock()
        return [self._read_new(*one, pack=pack) for one in entries]

    def name(
        self,
        entries: Sequence[Entry],
        groups: Sequence[Group],
        digests: dict[bytes, bytes],
    ) -> tuple[str, list[Entry]]:
        """Name the tree by its content, without looking at it.

        Args:
            entries: What is in it.
            groups: These in groups, if they are known; else none.
            digests: Content digests that are known already, by path; more are added.

        Returns:
            Its name; or an empty one, and the files whose content is not known.
        """
        if self._root is None:
            self._open()
        return self._notes.name(entries, groups or make_groups(entries), digests)

    def close(self) -> None:
        """Note what was found out, and let go of the tree. Twice is fine."""
        self._notes.close()
        if self._root is not None:
            self._root.close()
            self._root = None
        for held in (self._described, self._small, self._pieces):
            held.clear()

    def _open(self) -> Root:
        # Again: it may have become a link since it was asked for.
        real = locate_root(self._path, self._allowed, closed=self._closed)
        root = Root(open_real(real), closed=places_of(self._closed))
        if self._root is not None:
            self._root.close()
        self._notes.open(real)
        self._root = root
        return root

    @contextlib.contextmanager
    def _opened(self, entry: Entry) -> Iterator[OpenFile]:
        """Open a file that is as the entry says, and stays so until it is closed."""
        folder, name = (self._root or self._open()).parent(entry.path)
        fd = os.open(name, READ_FLAGS, dir_fd=folder)
        try:
            stat, noted_ns = settle(fd)
            if not is_as_said(stat, entry):
                raise ChangedError
            yield OpenFile(entry.path, fd, stat, noted_ns)
            if looks(os.fstat(fd)) != looks(stat):
                raise ChangedError
        finally:
            os.close(fd)

    def _chunks(self, entry: Entry, offset: int) -> tuple[Chunk, ...]:
        new: list[Chunk] = []
        with self._opened(entry) as file:
            if offset == 0:
                self._begin(entry, file)
            found = self._compare(file)
            if found is None:
                raise ChangedError  # nobody knows how it was when it was begun
            is_new = offset == found.end
            if is_new:
                new = self._cut(file, offset)
        found.add(new)
        if is_new and found.is_whole:
            noted_ns = found.noted_ns
            self._notes.add(entry.path, found.stat, found.packed, noted_ns=noted_ns)
        return found.part(offset)

    def _cut(self, file: OpenFile, offset: int) -> list[Chunk]:
        """Cut the next part of a file; what was read for that is soon asked for."""
        chunks, data = chunk_part(file.fd, offset=offset, limit=PART)
        if data is not None:
            self._pieces.hold(file, offset, data)
        return chunks

    def _begin(self, entry: Entry, file: OpenFile) -> None:
        """Take what is known of a file, if that is how it looks now."""
        found = self._described.get(file.path)
        if found is None or found.proof != pack_proof(file.stat):
            found = Description(file.stat, file.noted_ns)
            (known,) = self._notes.known([entry], lambda _: file.stat)
            found.add(known or ())
            self._described.put(file.path, found)

    def _compare(self, file: OpenFile) -> Description | None:
        """See that a file is the one that was described; None if none was."""
        found = self._described.get(file.path)
        if found is not None and found.proof != pack_proof(file.stat):
            raise ChangedError
        return found

    def _describe_whole(self, number: int, entry: Entry) -> Offer | Problem:
        if entry.size <= SMALL:
            try:
                _, chunks = self._content(entry)
            except (OSError, ChangedError) as exc:
                return _problem(entry, exc)
            return Offer(number, 0, chunks)
        offer = self.describe(entry, number)
        while isinstance(offer, Offer) and not offer.is_last:
            end = sum(one.length for one in offer.chunks)
            more = self.describe(entry, number, offset=end)
            if isinstance(more, Problem):
                return more
            offer = Offer(number, 0, offer.chunks + more.chunks, more.is_last)
        return offer

    def _content(self, entry: Entry) -> tuple[bytes, tuple[Chunk, ...]]:
        """Read a small file, or take what was read of it of late."""
        held = self._small.get(entry.path)
        if held is not None and held[0] == entry:
            return held[1:]
        data, chunks = self._fresh(entry)
        self._small.put(entry.path, (entry, data, chunks), size=len(data) + OVERHEAD)
        return data, chunks

    def _fresh(self, entry: Entry) -> tuple[bytes, tuple[Chunk, ...]]:
        """Read a small file."""
        root = self._root or self._open()
        data, chunks, stat, noted_ns = read_small(root, entry, self._clock)
        self._notes.add(entry.path, stat, chunks, noted_ns=noted_ns)
        return data, chunks

    def _read_whole(self, number: int, entry: Entry, *, pack: bool) -> Piece | Problem:
        key = entry.path, entry.mtime_ns, 0, entry.size
        piece = self._pieces.held(number, key)
        if piece is not None:
            return piece
        try:
            data, _ = self._content(entry)
        except (OSError, ChangedError) as exc:
            return _problem(entry, exc)
        if not self._is_shared:
            self._small.drop(entry.path)
        return self._pieces.whole(number, key, data, pack=pack)

    def _read_new(
        self, number: int, entry: Entry, *, pack: bool
    ) -> tuple[Offer, Piece] | Problem:
        try:
            read = self._content if self._is_shared else self._fresh
            data, chunks = read(entry)
        except (OSError, ChangedError) as exc:
            return _problem(entry, exc)
        key = entry.path, entry.mtime_ns, 0, entry.size
        piece = self._pieces.held(number, key)
        piece = piece or self._pieces.whole(number, key, data, pack=pack)
        return Offer(number, 0, chunks), piece

    def _known(self, entries: Sequence[Entry]) -> list[tuple[Chunk, ...] | None]:
        """Give what is known of files that look as the entries say."""
        root = self._root or self._open()

        def look(place: int) -> os.stat_result | None:
            with contextlib.suppress(OSError):
                found = root.stat(entries[place].path)
                if is_as_said(found, entries[place]):
                    return found
            return None

        return self._notes.known(entries, look)


def _problem(entry: Entry, exc: OSError | ChangedError) -> Problem:
    if isinstance(exc, ChangedError):
        return Problem(entry.path, CHANGED)
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return Problem(entry.path, VANISHED)
    if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link or a socket by now
        return Problem(entry.path, CHANGED)
    return Problem(entry.path, exc.strerror or str(exc))
