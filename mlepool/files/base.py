"""What passes between the two ends of a sync, and what each end can do.

An end is on this machine, or on a worker (where its calls are requests over the
link): who drives a sync does not know which. A target takes files by their number,
the place in what :meth:`Target.expect` was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec

from mlepool.tree import Entry, Group

__all__ = [
    "MAX_SIZE",
    "Chunk",
    "Offer",
    "Piece",
    "Problem",
    "Scan",
    "Source",
    "SourceOptions",
    "Target",
    "TargetOptions",
    "TargetReport",
]

MAX_CHUNK = 16 * 1024 * 1024  # bytes; far above ours, and bounds what is held of one
MAX_SIZE = (1 << 63) - 1  # bytes of a file: what a file system can say

# What comes from the other side is checked by these as it is decoded.
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Length = Annotated[int, msgspec.Meta(gt=0, le=MAX_CHUNK)]
Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of content, by its name.

    Attributes:
        digest: BLAKE3 of its bytes, 32 bytes.
        length: Its bytes; over 0.
    """

    digest: Digest
    length: Length


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """What a file consists of: all of it, or the next part of a large one.

    Attributes:
        number: The file's number.
        offset: Where the first chunk begins.
        chunks: The next ones, in order. None for an empty file.
        is_last: True if they are the file's last.
    """

    number: Number
    offset: Offset
    chunks: tuple[Chunk, ...]
    is_last: bool = True


class Piece(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Some bytes of a file: a chunk that was missing, or a part of one.

    Attributes:
        number: The file's number.
        offset: Where they belong in the file.
        data: The bytes; as a zstd frame if ``packed``.
        packed: How many bytes ``data`` unpacks to; 0 if it is not packed.
    """

    number: Number
    offset: Offset
    data: bytes
    packed: Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNK)] = 0


class Problem(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What went wrong with one file, the others going on.

    Attributes:
        path: Which.
        text: What, for people.
    """

    path: bytes
    text: str


class Scan(msgspec.Struct, frozen=True, array_like=True):
    """What is in a tree.

    Attributes:
        entries: By path, parents before what is in them.
        problems: What could not be read, or is of a kind that is not synced.
        exists: False if there is nothing at the root.
        patterns: Path of a folder, and what an ignore file in it says, in the order
            in which they are to be read.
        outline: The entries in groups; none if that can't be, or was not made.
    """

    entries: list[Entry]
    problems: list[Problem] = []
    exists: bool = True
    patterns: list[tuple[bytes, bytes]] = []
    outline: list[Group] = []


class SourceOptions(msgspec.Struct, frozen=True, array_like=True):
    """How to look at a tree.

    Attributes:
        exclude: Patterns of what to leave out, as lines of a ``.gitignore`` at the
            root.
        ignore_files: Names of files that hold such patterns, for their folder and
            what is below it.
        include: Patterns of what to look at, and at nothing else; none for all.
    """

    exclude: tuple[str, ...] = ()
    ignore_files: tuple[str, ...] = (".gitignore", ".mlepoolignore")
    include: tuple[str, ...] = ()


class TargetOptions(msgspec.Struct, frozen=True, array_like=True):
    """How to write a tree.

    Attributes:
        exclude: As in :class:`SourceOptions`: what is left out is not looked at here
            either, so it is never deleted.
        ignore_files: As in :class:`SourceOptions`.
        owner: Who syncs, for people: others wait for it, and are told its name.
    """

    exclude: tuple[str, ...] = ()
    ignore_files: tuple[str, ...] = (".gitignore", ".mlepoolignore")
    owner: str = ""


class TargetReport(msgspec.Struct, frozen=True, array_like=True):
    """What a target has done.

    Attributes:
        written: Files that have new content.
        reused: Bytes of content that were found here, and needed not be sent.
        deleted: Entries that went to the trash.
        problems: What could not be done.
    """

    written: int = 0
    reused: int = 0
    deleted: int = 0
    problems: list[Problem] = []


class Source(Protocol):
    """The end that is read."""

    async def scan(self) -> Scan:
        """See what is there, ignored entries left out.

        Raises:
            FileNotFoundError: If there is nothing.
            NotADirectoryError: If it is not a folder.
        """

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        """Read a file from an offset, and name its chunks: a part of some MiB.

        A file that is not as the entry says any more (size, mtime), or changes while
        it is read, is a Problem.
        """

    async def describe_many(
        self, entries: Sequence[tuple[int, Entry]]
    ) -> list[Offer | Problem]:
        """Describe small files, each of them whole, in one go."""

    async def read(
        self,
        entry: Entry,
        number: int,
        *,
        ranges: Sequence[tuple[int, int]],
        pack: bool = True,
    ) -> list[Piece] | Problem:
        """Read ranges (offset, length) of a file; packed, if that is wanted and a gain.

        A piece has at most 112 KiB, or 448 KiB if it is not to be packed; a Problem as
        in :meth:`describe`.
        """

    async def read_many(
        self, entries: Sequence[tuple[int, Entry]], *, pack: bool = True
    ) -> list[Piece | Problem]:
        """Read small files, each of them whole, in one go; packed likewise."""

    async def close(self) -> None:
        """Let go of everything. Twice is fine."""


class Target(Protocol):
    """The end that is written.

    Nothing in the tree changes before :meth:`commit`; after a failure, or a
    :meth:`close` without it, the tree is as it was.
    """

    @property
    def wants_packed(self) -> bool:
        """False if packing what is sent to it would take longer than sending it."""

    async def scan(self) -> Scan:
        """Take the tree for ourselves, waiting for others, and see what is there.

        Raises:
            NotADirectoryError: If it is not a folder.
            PermissionError: If it is not inside the allowed roots, or not writable.
        """

    async def reserve(self, size: int, count: int) -> None:
        """Check that so many bytes and files can be taken, before the first one.

        Raises:
            OSError: ENOSPC or EDQUOT, with how much is missing.
        """

    async def expect(self, first: int, entries: Sequence[Entry]) -> None:
        """Tell which files come: their numbers count from ``first``."""

    async def offer(self, offers: Sequence[Offer]) -> list[list[int]]:
        """Tell what files consist of.

        What is here already (in this tree, in others, in what was replaced or deleted
        of late) is copied here, and checked.

        Returns:
            For each offer, the indexes of the chunks that have to be sent.
        """

    async def write(
        self, pieces: Sequence[Piece], *, offers: Sequence[Offer] = ()
    ) -> None:
        """Take bytes of missing chunks, in order within a chunk.

        Args:
            pieces: The bytes.
            offers: What files consist of that were not offered: nothing of them is
                looked for here. The pieces are all of them.

        Raises:
            ValueError: If they are not what was offered.
            OSError: If they can't be written.
        """

    async def drop(self, numbers: Sequence[int]) -> None:
        """Forget files that won't come; they stay as they are in the tree."""

    async def prepare(
        self,
        *,
        folders: Sequence[Entry] = (),
        links: Sequence[Entry] = (),
        touched: Sequence[Entry] = (),
        deleted: Sequence[bytes] = (),
    ) -> None:
        """Tell what else is to be done; several calls add up.

        Args:
            folders: To be there, with their mode and mtime.
            links: To be there.
            touched: To get their mode and mtime; the content stays.
            deleted: To go to the trash, with all that is in them.
        """

    async def commit(self, *, digest: str = "") -> TargetReport:
        """Do it all: folders, deletions, files and links by renaming, then times.

        Args:
            digest: Names the tree, for who keeps a record; empty where not known.
        """

    async def close(self) -> None:
        """Let go of the tree, and of what was not committed. Twice is fine."""
