"""File trees as data: what is in one, and the plan to make one like the other.

Pure: no file is touched here. Paths are bytes, relative to the tree's root, their
parts joined by ``/``: as the file system has them, whatever their encoding.

The order of entries is that of the tuples of their parts: a folder, all that is in it,
then what comes next beside it. Both ends list trees in that order, so that a plan is
one walk along two lists.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from blake3 import blake3

from mlepool.errors import SyncHaltedError

__all__ = [
    "FILE",
    "FOLDER",
    "LINK",
    "MAX_PATH",
    "Entry",
    "PageReader",
    "Plan",
    "check_plan",
    "decode_pages",
    "encode_pages",
    "make_plan",
    "order_of",
    "tree_digest",
]

FILE, FOLDER, LINK = "f", "d", "l"

MAX_PATH = 64 * 1024  # bytes; bounds what one name can make the other side hold
MAX_PAGE = 512 * 1024  # bytes; half a frame, so that a request with one always fits
MAX_PAGE_PATHS = 16 * 1024 * 1024  # bytes of a page's paths once they are spelled out
ROW_COST = 40  # bytes at most of an encoded row or group beside its texts
FEW = 5  # entries that may go without being more than a mistake would take

Kind = Literal["f", "d", "l"]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file, folder or symbolic link of a tree.

    Attributes:
        path: Where; never empty, no part is ``.``, ``..`` or empty.
        kind: :data:`FILE`, :data:`FOLDER` or :data:`LINK`.
        mode: Permission bits, 0 to 0o7777; 0 for a link.
        size: Bytes of a file. Of a folder, how many things in it are not listed:
            ignored ones, and those that can't be read or synced; such a folder is
            never deleted. 0 for a link.
        mtime_ns: When it was last modified, nanoseconds since the epoch.
        target: What a link says.
    """

    path: bytes
    kind: str
    mode: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""


class Plan(msgspec.Struct):
    """What is to be done to make a tree like another.

    What is deleted goes first: other entries may come in its place.

    Attributes:
        folders: To be made, or to get their mode and mtime: also those in which
            something changes, which alters their mtime.
        files: To be offered.
        links: To be made, or to say something else.
        touched: Files of the same size and mtime, with another mode.
        deleted: Paths of what goes, with all that is in it; none is in another.
        refused: Paths that stay as they are, each with the reason.
        unchanged: Files and links that are the same already.
        size: Bytes to send, if nothing of the files' content is there.
        gone: Entries that go, and have no successor at their path.
        source_count: Entries of the source.
        target_count: Entries of the target.
    """

    folders: list[Entry] = []
    files: list[Entry] = []
    links: list[Entry] = []
    touched: list[Entry] = []
    deleted: list[bytes] = []
    refused: list[tuple[bytes, str]] = []
    unchanged: int = 0
    size: int = 0
    gone: int = 0
    source_count: int = 0
    target_count: int = 0

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do."""
        whole = (self.folders, self.files, self.links, self.touched, self.deleted)
        return not any(whole)


def order_of(path: bytes) -> bytes:
    """Give what paths are ordered by: as the tuples of their parts are."""
    return path.replace(b"/", b"\0")


def make_plan(
    source: Sequence[Entry],
    target: Sequence[Entry],
    *,
    delete: bool = False,
    checksum: bool = False,
    unread: Collection[bytes] = (),
) -> Plan:
    """Plan how to make the target like the source.

    A file or a link takes the place of a folder only if that is empty, or with
    ``delete``; never if something in it is not listed.

    Args:
        source: What there is to be, in order.
        target: What there is, in order.
        delete: What is not in the source is deleted.
        checksum: Every file is offered, also with the same size and mtime.
        unread: Paths of the source that are there but could not be read: what the
            target has there is not deleted.
    """
    return _Planner(target, delete=delete, checksum=checksum, unread=unread).run(source)


class _Planner:
    """One walk along source and target."""

    def __init__(
        self,
        target: Sequence[Entry],
        *,
        delete: bool,
        checksum: bool,
        unread: Collection[bytes],
    ) -> None:
        self._target = target
        self._delete = delete
        self._checksum = checksum
        self._unread = frozenset(unread)
        self._kept = _folders_to_keep(target)
        self._same: dict[bytes, Entry] = {}  # folders that nothing has changed so far
        self._plan = Plan()

    def run(self, source: Sequence[Entry]) -> Plan:
        plan, target, at = self._plan, self._target, 0
        plan.source_count, plan.target_count = len(source), len(target)
        for new in source:
            at = self._lose_until(at, new.path)
            if at < len(target) and target[at].path == new.path:
                at = self._meet(new, at)
            else:
                self._add(new)
        while at < len(target):
            at = self._lose(at)
        plan.folders.sort(key=lambda entry: order_of(entry.path))
        return plan

    def _lose_until(self, at: int, path: bytes) -> int:
        """Pass what the source lacks, up to a path of the source's."""
        target = self._target
        if at < len(target) and target[at].path != path:
            order = order_of(path)
            while at < len(target) and order_of(target[at].path) < order:
                at = self._lose(at)
        return at

    def _lose(self, at: int) -> int:
        """Decide upon an entry that the source lacks; give where the next one is."""
        old = self._target[at]
        if old.path in self._unread:
            return self._after(at)
        if not self._delete or old.path in self._kept:
            return at + 1
        after = self._after(at)
        self._remove(old)
        self._plan.gone += after - at
        return after

    def _meet(self, new: Entry, at: int) -> int:
        """Compare what is at one path on both sides."""
        old = self._target[at]
        if old.kind != new.kind:
            return self._replace(new, at)
        if old.kind == FOLDER:
            self._compare_folders(new, old)
            return self._after(at) if new.path in self._unread else at + 1
        if old.kind == LINK:
            same = old.target == new.target
        else:
            same = (old.size, old.mtime_ns) == (new.size, new.mtime_ns)
            same = same and not self._checksum
        if not same:
            self._add(new)
        elif old.mode != new.mode:
            self._plan.touched.append(new)
        else:
            self._plan.unchanged += 1
        return at + 1

    def _compare_folders(self, new: Entry, old: Entry) -> None:
        if (old.mode, old.mtime_ns) == (new.mode, new.mtime_ns):
            self._same[new.path] = new
        else:
            self._plan.folders.append(new)

    def _replace(self, new: Entry, at: int) -> int:
        old, after = self._target[at], self._after(at)
        reason = ""
        if old.path in self._kept:
            reason = "a folder is in its place, with things in it that are not synced"
        elif after - at > 1 and not self._delete:
            reason = (
                f"a folder with {after - at - 1} entries is in its place; "
                "delete=True would replace it"
            )
        if reason:
            self._plan.refused.append((new.path, reason))
        else:
            self._remove(old)
            self._plan.gone += after - at - 1
            self._add(new)
        return after

    def _remove(self, old: Entry) -> None:
        self._plan.deleted.append(old.path)
        self._change_parent(old.path)

    def _add(self, new: Entry) -> None:
        plan = self._plan
        if new.kind == FILE:
            plan.files.append(new)
            plan.size += new.size
        elif new.kind == FOLDER:
            plan.folders.append(new)
        else:
            plan.links.append(new)
        self._change_parent(new.path)

    def _change_parent(self, path: bytes) -> None:
        """Have the folder's mtime set again, after what is done in it."""
        folder = self._same.pop(path.rpartition(b"/")[0], None)
        if folder is not None:
            self._plan.folders.append(folder)

    def _after(self, at: int) -> int:
        """Give the place behind an entry and all that is in it."""
        target = self._target
        prefix = target[at].path + b"/"
        after = at + 1
        if target[at].kind == FOLDER:
            while after < len(target) and target[after].path.startswith(prefix):
                after += 1
        return after


def _folders_to_keep(entries: Iterable[Entry]) -> set[bytes]:
    """Find the folders in which, however deep, something is not listed."""
    kept: set[bytes] = set()
    for entry in entries:
        if entry.size and entry.kind == FOLDER:
            path = entry.path
            while path and path not in kept:
                kept.add(path)
                path = path.rpartition(b"/")[0]
    return kept


def check_plan(plan: Plan, *, force: bool = False) -> None:
    """Halt what looks like a mistake: a source that is not mounted, a wrong path.

    Args:
        plan: What would be done.
        force: Accept it.

    Raises:
        SyncHaltedError: If the source is empty and the target is not, or if more than
            half of the target, and more than a handful, would be deleted.
    """
    if force:
        return
    total = plan.target_count
    if total and not plan.source_count:
        raise SyncHaltedError(f"the source is empty, the target has {total} entries")
    if plan.gone > FEW and plan.gone * 2 > total:
        raise SyncHaltedError(
            f"{plan.gone} of the target's {total} entries would be deleted"
        )


def tree_digest(entries: Iterable[Entry], digests: Mapping[bytes, bytes]) -> str:
    """Give a name to what is in a tree: same name, same content.

    Paths, kinds, what links say, the content of files and whether their owner may
    execute them decide; times and other permission bits don't.

    Args:
        entries: All entries, in order.
        digests: The content digest of each file, by path.

    Returns:
        A BLAKE3 of 256 bits, in hex.

    Raises:
        KeyError: If a file has no digest.
    """
    hasher = blake3(b"mlepool tree 1\0")
    for entry in entries:
        content = digests[entry.path] if entry.kind == FILE else entry.target
        kind = "x" if entry.kind == FILE and entry.mode & 0o100 else entry.kind
        head = struct.pack("<cII", kind.encode(), len(entry.path), len(content))
        hasher.update(head + entry.path + content)
    return hasher.hexdigest()


# On its way, a tree is pages of groups: a folder's path, and entries that are in it.

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

    def _read_group(self, group: _Group) -> Iterator[Entry]:
        folder, folders, modes = group.folder, self._folders, self._modes
        while folders and folders[-1] != folder:
            folders.pop()
        if not folders:
            raise ValueError(f"{folder!r} is not a folder that was listed before")
        prefix = folder + b"/" if folder else b""
        for row in group.rows:
            _check_row(row)
            path = prefix + row.name
            if len(path) > MAX_PATH:
                raise ValueError(f"a path of {len(path)} bytes is too long")
            order = order_of(path)
            if order <= self._last:
                raise ValueError(f"{path!r} is out of order")
            self._last = order
            if row.kind == FOLDER:
                folders.append(path)
            mode = modes.setdefault(row.mode, row.mode)
            yield Entry(path, row.kind, mode, row.size, row.mtime_ns, row.target)


def _check_row(row: _Row) -> None:
    name = row.name
    if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
        raise ValueError(f"{name!r} is not a name")
    if row.kind == LINK:
        right = row.target and b"\0" not in row.target and not row.size and not row.mode
    else:
        right = not row.target
    if not right or len(row.target) > MAX_PATH:
        raise ValueError(f"what is said of {name!r} does not fit its kind {row.kind!r}")
