"""Batches: files that are offered, or sent, together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlepool.client.files.parts import GROUP, Ranges, ranges_of
from mlepool.files.base import Offer
from mlepool.tree import Entry

__all__ = ["Asked", "Lacking", "Numbered", "batches_of", "in_frames"]

BATCH_FILES = 500  # small files that are described and sent together
FILE_COST = 256  # bytes that are said of a small file beside its content

Numbered = tuple[int, Entry]
Asked = tuple[Numbered, Offer, list[int]]  # and which of its chunks are missing
Lacking = tuple[Numbered, Ranges]  # a file, and what of it is to be sent


def batches_of(files: Iterable[Numbered], limit: int) -> Iterator[list[Numbered]]:
    """Give files some at a time, of so many bytes together."""
    batch: list[Numbered] = []
    size = 0
    for one in files:
        weight = one[1].size + FILE_COST
        if batch and (len(batch) == BATCH_FILES or size + weight > limit):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def in_frames(asked: Iterable[Asked]) -> Iterator[list[Lacking]]:
    """Give what is to be sent of files, as much at a time as fits in a frame."""
    frame: list[Lacking] = []
    room = GROUP
    for file, offer, missing in asked:
        ranges = ranges_of(offer, missing)
        size = sum(length for _, length in ranges)
        if frame and size > room:
            yield frame
            frame, room = [], GROUP
        if size:
            frame.append((file, ranges))
            room -= size
    if frame:
        yield frame
