"""A tree on its way: pages of MessagePack, and a reader that trusts none of them.

A page is a list of groups, and a group the path of a folder and rows, one for each
entry in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Annotated, Literal

import msgspec

from mlepool.tree.entries import FOLDER, LINK, MAX_PATH, Entry, order_of

__all__ = ["MAX_PAGE", "MAX_PAGE_PATHS", "PageReader", "decode_pages", "encode_pages"]

MAX_PAGE = 512 * 1024  # bytes; half a frame, so that a request with one always fits
MAX_PAGE_PATHS = 16 * 1024 * 1024  # bytes of a page's paths once they are spelled out
ROW_COST = 40  # bytes at most of an encoded row or group beside its texts

NO_NAMES = frozenset((b"", b".", b".."))
NOT_A_NAME = re.compile(rb"[/\0]|\A\.{0,2}\Z")

Kind = Literal["f", "d", "l"]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Time = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    name: bytes
    kind: Kind
    mode: Mode = 0
    size: Size = 0
    mtime_ns: Time = 0
    target: bytes = b""


class _Group(msgspec.Struct, frozen=True, array_like=True):
    folder: bytes
    rows: list[_Row]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Group])


def encode_pages(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Write a tree as MessagePack, in pages of up to 512 KiB; at least one.

    Raises:
        ValueError: If an entry can't be in a page: its path is too long.
    """
    groups: list[tuple[bytes, list[tuple[object, ...]]]] = []
    size = paths = 0
    for entry in entries:
        folder, _, name = entry.path.rpartition(b"/")
        length = len(entry.path)
        if length > MAX_PATH or len(entry.target) > MAX_PATH:
            raise ValueError(f"a path of {length} bytes is too long")
        cost = length + len(entry.target) + 2 * ROW_COST
        if size + cost > MAX_PAGE or paths + length > MAX_PAGE_PATHS:
            yield _encoder.encode(groups)
            groups, size, paths = [], 0, 0
        if not groups or groups[-1][0] != folder:
            groups.append((folder, []))
            size += len(folder) + ROW_COST
        groups[-1][1].append(_row_of(entry, name))
        size += len(name) + len(entry.target) + ROW_COST
        paths += length
    yield _encoder.encode(groups)


def _row_of(entry: Entry, name: bytes) -> tuple[object, ...]:
    row = (name, entry.kind, entry.mode, entry.size, entry.mtime_ns)
    return (*row, entry.target) if entry.target else row


def decode_pages(pages: Iterable[bytes]) -> list[Entry]:
    """Read a tree from pages.

    Raises:
        ValueError: If they are not what :func:`encode_pages` may give; it names what
            is wrong.
    """
    reader = PageReader()
    return [entry for page in pages for entry in reader.read(page)]


class PageReader:
    """Reads a tree from pages that come one by one, and trusts none."""

    def __init__(self) -> None:
        self._last = b""
        self._folders = [b""]  # those that the next entries can be in, or below
        self._modes: dict[int, int] = {}  # one object for equal ones

    def read(self, page: bytes | memoryview) -> list[Entry]:
        """Read the next page.

        Raises:
            ValueError: If it can't be; the reader is of no use then.
        """
        if len(page) > MAX_PAGE:
            raise ValueError(f"a page of {len(page)} bytes is too long")
        try:
            groups = _decoder.decode(page)
        except (msgspec.DecodeError, RecursionError, TypeError) as exc:
            raise ValueError(f"not a page of a tree: {exc}") from exc
        spelled = sum(
            len(group.folder) * len(group.rows)
            + sum(len(row.name) for row in group.rows)
            for group in groups
        )
        if spelled > MAX_PAGE_PATHS:
            raise ValueError(f"the paths of a page have {spelled} bytes")
        return [entry for group in groups for entry in self._read_group(group)]

    def pass_over(self, entries: Sequence[Entry]) -> None:
        """Go on behind entries that are known, in place of a page that lists them.

        Args:
            entries: One or more that follow each other in a tree that was read or
                scanned.

        Raises:
            ValueError: If they can't be there.
        """
        self._enter(entries[0].path.rpartition(b"/")[0])
        self._advance(entries[0].path, entries[-1].path)
        path, at = entries[-1].path, 0
        self._folders = [b""]
        while (at := path.find(b"/", at + 1)) >= 0:
            self._folders.append(path[:at])
        if entries[-1].kind == FOLDER:
            self._folders.append(path)

    def _read_group(self, group: _Group) -> Iterator[Entry]:
        folder, rows = group.folder, group.rows
        folders, modes = self._folders, self._modes
        self._enter(folder)
        prefix = folder + b"/" if folder else b""
        names = [row.name for row in rows]
        self._check(prefix, names)
        for row in rows:
            if row.target or row.kind == LINK:
                _check_link(row)
            path = prefix + row.name
            if row.kind == FOLDER:
                folders.append(path)
            mode = modes.setdefault(row.mode, row.mode)
            yield Entry(path, row.kind, mode, row.size, row.mtime_ns, row.target)

    def _enter(self, folder: bytes) -> None:
        """See that what is next can be in a folder."""
        folders = self._folders
        while folders and folders[-1] != folder:
            folders.pop()
        if not folders:
            raise ValueError(f"{folder!r} is not a folder that was listed before")

    def _advance(self, first: bytes, last: bytes) -> None:
        """See that what is next comes behind what was before."""
        if order_of(first) <= self._last:
            raise ValueError(f"{first!r} is out of order")
        self._last = order_of(last)

    def _check(self, prefix: bytes, names: list[bytes]) -> None:
        """See that what is in a group are names, and in order."""
        together = b"".join(names)
        if b"/" in together or b"\0" in together or not NO_NAMES.isdisjoint(names):
            wrong = next(name for name in names if NOT_A_NAME.search(name))
            raise ValueError(f"{wrong!r} is not a name")
        longest = len(prefix) + max(map(len, names), default=0)
        if longest > MAX_PATH:
            raise ValueError(f"a path of {longest} bytes is too long")
        if not names:
            return
        self._advance(prefix + names[0], prefix + names[-1])
        if not all(map(lt, names, names[1:])):
            raise ValueError(f"what is in {prefix!r} is out of order")


def _check_link(row: _Row) -> None:
    is_link = row.kind == LINK and row.target and b"\0" not in row.target
    if not is_link or row.size or row.mode or len(row.target) > MAX_PATH:
        raise ValueError(f"what is said of {row.name!r} does not fit its kind")
