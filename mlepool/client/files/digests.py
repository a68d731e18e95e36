"""Digests: the name of a tree's content, from those of its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mlepool.files.aside import aside
from mlepool.files.base import Chunk, Problem, Source
from mlepool.files.chunks import SMALL, content_digest
from mlepool.tree import FILE, Entry, Group, tree_digest

__all__ = ["name_tree"]

BATCH = 500  # files whose digests are asked for at a time


@runtime_checkable
class _Knowing(Protocol):
    """A source that remembers what it was, by what its scan lists."""

    async def name_content(
        self,
        entries: Sequence[Entry],
        groups: Sequence[Group],
        digests: dict[bytes, bytes],
    ) -> tuple[str, list[Entry]]: ...


async def name_tree(
    source: Source,
    entries: Sequence[Entry],
    digests: dict[bytes, bytes],
    *,
    groups: Sequence[Group] = (),
) -> str:
    """Name the content of a tree.

    What the source knows of its files is not read for it, nor looked at: it has its
    size and mtime still, by which a sync goes, too.

    Args:
        source: Where the tree is.
        entries: What is in it.
        digests: Content digests that are known, by path; others are added.
        groups: The entries in groups, if they are known.

    Returns:
        Its name; empty if a file is not as its entry says any more.
    """
    if not isinstance(source, _Knowing):
        unknown = [one for one in entries if one.kind == FILE]
        if not await _read(source, unknown, digests):
            return ""
        return await aside(len(entries), lambda: tree_digest(entries, digests))
    name, unknown = await source.name_content(entries, groups, digests)
    if unknown and await _read(source, unknown, digests):
        name, _ = await source.name_content(entries, groups, digests)
    return name


async def _read(
    source: Source, entries: Sequence[Entry], digests: dict[bytes, bytes]
) -> bool:
    """Find out the digests of files; False if one is not as its entry says."""
    unknown = [one for one in entries if one.path not in digests]
    small = [one for one in unknown if one.size <= SMALL]
    for at in range(0, len(small), BATCH):
        if not await _name_small(source, small[at : at + BATCH], digests):
            return False
    for entry in unknown:
        if entry.size > SMALL and not await _name_large(source, entry, digests):
            return False
    return True


async def _name_small(
    source: Source, entries: Sequence[Entry], digests: dict[bytes, bytes]
) -> bool:
    answers = await source.describe_many(list(enumerate(entries)))
    for entry, answer in zip(entries, answers, strict=True):
        if isinstance(answer, Problem):
            return False
        digests[entry.path] = content_digest(answer.chunks)
    return True


async def _name_large(
    source: Source, entry: Entry, digests: dict[bytes, bytes]
) -> bool:
    chunks: list[Chunk] = []
    offset, is_last = 0, False
    while not is_last:
        answer = await source.describe(entry, 0, offset=offset)
        if isinstance(answer, Problem):
            return False
        chunks += answer.chunks
        offset = answer.offset + sum(one.length for one in answer.chunks)
        is_last = answer.is_last
    digests[entry.path] = content_digest(chunks)
    return True
