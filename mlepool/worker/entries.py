"""What is in a folder, and what matches a pattern, as values for clients."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import grp
import heapq
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Iterator

from mlepool.files.descent import LIST_FLAGS, Root
from mlepool.wire.answers import FileInfo, Listing
from mlepool.worker.jail import Place, shown

__all__ = [
    "find_matches",
    "info_of",
    "list_names",
    "next_names",
    "page_of",
    "split_pattern",
]

PAGE = 512 * 1024  # bytes of entries in an answer, which is one frame
MOST = 6000  # entries in an answer
ENTRY = 80  # bytes at most of an entry's numbers
MAX_MATCHES = 100_000
MAX_LOOKS = 200_000  # folders that a pattern may lead into
_MAGIC = re.compile(rb"[*?\[]")
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def info_of(place: Place, *, name: bytes | None = None) -> FileInfo:
    """Describe something, a link itself.

    Args:
        place: Where it is.
        name: What to call it; by default its name.

    Raises:
        OSError: If it is not there.
    """
    seen = place.stat()
    raw = os.path.basename(place.real) or b"/" if name is None else name
    target = b""
    if stat.S_ISLNK(seen.st_mode):
        target = os.readlink(place.name, dir_fd=place.fd)
    return FileInfo(
        shown(raw),
        _KINDS.get(stat.S_IFMT(seen.st_mode), "device"),
        seen.st_size,
        stat.S_IMODE(seen.st_mode),
        seen.st_mtime,
        _account(seen.st_uid),
        _group(seen.st_gid),
        shown(target),
        place.path,
        _unless_text(raw),
        _unless_text(place.real),
    )


def _unless_text(raw: bytes) -> bytes:
    return raw if shown(raw).encode() != raw else b""


def page_of(
    path: str, found: Iterable[tuple[bytes, Place]], *, after: bytes
) -> Listing:
    """Describe as many as fit in an answer; what has gone meanwhile is left out.

    Args:
        path: What the listing is of.
        found: Names and places, sorted by name.
        after: The last name of the page before; empty for the first page.
    """
    entries: list[FileInfo] = []
    size, last = 0, b""
    for count, (name, place) in enumerate(one for one in found if one[0] > after):
        if size > PAGE or count == MOST:
            return Listing(path, tuple(entries), last)
        with contextlib.suppress(FileNotFoundError):
            entries.append(info_of(place, name=name))
            size += _size_of(entries[-1])
        last = name
    return Listing(path, tuple(entries))


def next_names(fd: int, after: bytes) -> list[bytes]:
    """List the names in an open folder that come next: more than fit in an answer.

    However many there are, no more are held.
    """
    own = os.open(b".", LIST_FLAGS, dir_fd=fd)
    try:
        with os.scandir(own) as found:
            names = (os.fsencode(one.name) for one in found)
            return heapq.nsmallest(MOST + 1, (one for one in names if one > after))
    finally:
        os.close(own)


def list_names(fd: int) -> list[tuple[bytes, bool]]:
    """List an open folder, sorted: names, and whether each is a folder itself."""
    own = os.open(b".", LIST_FLAGS, dir_fd=fd)
    try:
        with os.scandir(own) as found:
            return sorted(
                (os.fsencode(one.name), one.is_dir(follow_symlinks=False))
                for one in found
            )
    finally:
        os.close(own)


def split_pattern(pattern: bytes) -> tuple[bytes, list[bytes]]:
    """Part a pattern into the folder before its first wildcard, and the rest.

    Raises:
        ValueError: If ``..`` stands after a wildcard.
    """
    parts = [one for one in pattern.split(b"/") if one not in {b"", b"."}]
    count = next((at for at, one in enumerate(parts) if _MAGIC.search(one)), -1)
    if count < 0:
        count = max(0, len(parts) - 1)
    if b".." in parts[count:]:
        raise ValueError("'..' can only stand before the first wildcard")
    folder = b"/".join(parts[:count])
    return (b"/" if pattern.startswith(b"/") else b"") + folder, parts[count:]


def find_matches(
    root: Root, parts: list[bytes], *, is_open: Callable[[bytes], bool]
) -> list[bytes]:
    """Find what matches a pattern below a folder; no link is followed.

    Args:
        root: The folder.
        parts: The pattern's; ``**`` is any number of folders.
        is_open: Tells if a folder, by its path there, may be looked into.

    Returns:
        Paths, sorted.

    Raises:
        ValueError: If there are too many.
    """
    found: set[bytes] = set()
    waiting: list[tuple[bytes, int]] = [(b"", 0)] if parts else []
    seen = set(waiting)
    while waiting:
        path, at = waiting.pop()
        for name, is_folder, then in _steps(parts, at, _names(root, path)):
            below = path + b"/" + name if path and name else path + name
            if then == len(parts):
                found.add(below)
            elif is_folder and (below, then) not in seen and is_open(below):
                seen.add((below, then))
                waiting.append((below, then))
        if len(found) > MAX_MATCHES or len(seen) > MAX_LOOKS:
            raise ValueError("the pattern matches too much: make it narrower")
    return sorted(found)


def _steps(
    parts: list[bytes], at: int, names: list[tuple[bytes, bool]]
) -> Iterator[tuple[bytes, bool, int]]:
    """Go one part of a pattern on: names, whether folders, and the next part."""
    part = parts[at]
    if part != b"**":
        fits = _judge(part)
        yield from ((name, is_it, at + 1) for name, is_it in names if fits(name))
        return
    if at + 1 < len(parts):
        yield b"", True, at + 1  # no folder at all
    for name, is_folder in names:
        if not name.startswith(b"."):
            yield name, is_folder, at
            yield name, False, at + 1


def _judge(part: bytes) -> Callable[[bytes], bool]:
    """Give what tells if a name fits a part of a pattern."""
    if not _MAGIC.search(part):
        return lambda name: name == part
    fits = re.compile(fnmatch.translate(os.fsdecode(part))).match
    hidden = part.startswith(b".")
    return lambda name: bool(
        (hidden or not name.startswith(b".")) and fits(os.fsdecode(name))
    )


def _names(root: Root, path: bytes) -> list[tuple[bytes, bool]]:
    try:
        return list_names(root.folder(path))
    except OSError:
        if not path:
            raise
        return []  # gone meanwhile, or not ours to read


def _size_of(info: FileInfo) -> int:
    texts = (info.name, info.target, info.path)
    return (
        ENTRY
        + len(info.raw)
        + len(info.raw_path)
        + sum(len(one.encode()) for one in texts)
    )


@functools.lru_cache(maxsize=256)
def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@functools.lru_cache(maxsize=256)
def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
