"""Outlines: a tree in groups of entries, each by a digest of all that is listed there.

Who has most of a tree already need only be told the groups that it lacks. Where a group
ends depends on the path of its last entry alone: so what changes in one group leaves
the others as they are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from blake3 import blake3

from mlepool.tree.entries import Entry

__all__ = [
    "Group",
    "make_groups",
    "make_outline",
    "pack_outline",
    "unpack_outline",
]

AVERAGE = 64  # entries of a group
# Beyond these, which only long paths or much bad luck bring about, there is no outline:
MAX_COUNT = 1000  # entries of a group; as a page it has at most half the size of one
MAX_SAID = 128 * 1024  # bytes that say what is in a group
DIGEST = 16  # bytes
_GROUP = struct.Struct(f"<{DIGEST}sI")
_encoder = msgspec.msgpack.Encoder()


class Group(NamedTuple):
    """Some entries that follow each other.

    Attributes:
        digest: Of all that is said of them.
        size: How many they are.
    """

    digest: bytes
    size: int


def make_outline(entries: Sequence[Entry]) -> list[Group]:
    """Part a tree into groups; none if one of them would be too large for a page."""
    groups = []
    for said, size in _part(entries):
        if size > MAX_COUNT or len(said) > MAX_SAID:
            return []
        groups.append(_group(said, size))
    return groups


def make_groups(entries: Sequence[Entry]) -> list[Group]:
    """Part a tree into groups, however large they are."""
    return [_group(*one) for one in _part(entries)]


def _part(entries: Sequence[Entry]) -> Iterator[tuple[bytes, int]]:
    """Give what is said of each group, and how many entries it has."""
    crc32 = zlib.crc32
    ends = [at for at, one in enumerate(entries, 1) if not crc32(one.path) % AVERAGE]
    if entries and (not ends or ends[-1] != len(entries)):
        ends.append(len(entries))
    begin = 0
    for end in ends:
        yield _encoder.encode(entries[begin:end]), end - begin
        begin = end


def _group(said: bytes, size: int) -> Group:
    return Group(blake3(said).digest(length=DIGEST), size)


def pack_outline(outline: Iterable[Group]) -> bytes:
    """Make an outline bytes."""
    return b"".join([_GROUP.pack(*one) for one in outline])


def unpack_outline(packed: bytes) -> list[Group]:
    """Make it an outline again.

    Raises:
        ValueError: If it can't be one.
    """
    if len(packed) % _GROUP.size:
        raise ValueError(f"an outline has not {len(packed)} bytes")
    found = [Group(*one) for one in _GROUP.iter_unpack(packed)]
    if not all(one.size for one in found):
        raise ValueError("a group is empty")
    return found
