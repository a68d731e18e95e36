"""File trees as data: what is in one, and the plan to make one like the other.

Pure: no file is touched here. Paths are bytes, relative to the tree's root, their
parts joined by ``/``: as the file system has them, whatever their encoding.
"""

from __future__ import annotations

import msgspec

__all__ = ["FILE", "FOLDER", "LINK", "Entry"]

FILE, FOLDER, LINK = "f", "d", "l"


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file, folder or symbolic link of a tree.

    Attributes:
        path: Where; never empty, no part is ``.``, ``..`` or empty.
        kind: :data:`FILE`, :data:`FOLDER` or :data:`LINK`.
        mode: Permission bits, 0 to 0o7777; 0 for a link.
        size: Bytes of a file; else 0.
        mtime_ns: When it was last modified, nanoseconds since the epoch.
        target: What a link says.
    """

    path: bytes
    kind: str
    mode: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""
