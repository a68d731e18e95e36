"""What is in a tree, in which order, and the name of all of it.

The order of entries is that of the tuples of their paths' parts: a folder, all that is
in it, then what comes next beside it. Both ends list trees in that order, so that a
plan is one walk along two lists.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from blake3 import blake3

__all__ = [
    "FILE",
    "FOLDER",
    "LINK",
    "MAX_PATH",
    "MAX_TIME",
    "Entry",
    "content_of",
    "digest_of",
    "order_of",
    "tree_digest",
]

FILE, FOLDER, LINK = "f", "d", "l"
BATCH = 1000  # entries hashed at a time
MAX_PATH = 64 * 1024  # bytes; bounds what one name can make the other side hold
MAX_TIME = (1 << 63) - 1  # ns before or after the epoch: the years 1677 to 2262

_pack_head = struct.Struct("<cII").pack


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


def order_of(path: bytes) -> bytes:
    """Give what paths are ordered by: as the tuples of their parts are."""
    return path.replace(b"/", b"\0")


def tree_digest(entries: Sequence[Entry], digests: Mapping[bytes, bytes]) -> str:
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
    begins = range(0, len(entries), BATCH)
    return digest_of(content_of(entries[at : at + BATCH], digests) for at in begins)


def content_of(entries: Iterable[Entry], digests: Mapping[bytes, bytes]) -> bytes:
    """Give what some entries that follow each other add to a tree's name.

    Raises:
        KeyError: If a file has no digest.
    """
    said: list[bytes] = []
    for entry in entries:
        path, kind, content = entry.path, entry.kind.encode(), entry.target
        if entry.kind == FILE:
            content = digests[path]
            kind = b"x" if entry.mode & 0o100 else kind
        said += _pack_head(kind, len(path), len(content)), path, content
    return b"".join(said)


def digest_of(contents: Iterable[bytes]) -> str:
    """Give a tree's name, from what all of its entries add to it."""
    hasher = blake3(b"mlepool tree 1\0")
    for one in contents:
        hasher.update(one)
    return hasher.hexdigest()
