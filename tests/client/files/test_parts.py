"""A large file's parts: what is ahead of the one that is sent, and how far."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mlepool.client.files.parts import AHEAD, GROUP, Parts, groups_of
from mlepool.files.base import Chunk, Offer, Problem
from mlepool.tree import FILE, Entry
from tests.tools import in_jumping_time

COUNT, SIZE = 6, 1000
PROBLEM = Problem(b"large", "it was changed meanwhile")


class Ends:
    """Both ends at once: they note what they are asked for."""

    def __init__(self, *, problem_at: int = -1, error_at: int = -1) -> None:
        self.described: list[int] = []
        self.offered: list[int] = []
        self.under_way = 0
        self._problem_at = problem_at
        self._error_at = error_at

    async def describe(self, entry: Entry, number: int, *, offset: int = 0) -> Any:
        part = offset // SIZE
        self.described.append(part)
        if part == self._problem_at:
            return PROBLEM
        return Offer(number, offset, (Chunk(bytes(32), SIZE),), part == COUNT - 1)

    async def offer(self, offers: Any) -> list[list[int]]:
        (part,) = (one.offset // SIZE for one in offers)
        self.under_way += 1
        try:
            await asyncio.sleep(1)
        finally:
            self.under_way -= 1
        if part == self._error_at:
            raise ConnectionResetError
        self.offered.append(part)
        return [[0]] if part % 2 else [[]]


def parts_of(ends: Any) -> Parts:
    entry = Entry(b"large", FILE, size=COUNT * SIZE)
    return Parts(ends, ends, number=7, entry=entry)


async def settle() -> None:
    await asyncio.sleep(10)


@in_jumping_time
async def test_one_part_is_offered_and_one_described_ahead_of_what_is_sent():
    ends = Ends()
    parts = parts_of(ends)
    first = await anext(parts)
    assert isinstance(first, tuple)
    assert first[0].offset == 0
    await settle()
    assert (ends.offered, ends.described) == ([0, 1], [0, 1, 2])
    rest = [one async for one in parts]
    assert [one[1] for one in rest if isinstance(one, tuple)] == [[0], [], [0], [], [0]]
    assert ends.offered == ends.described == list(range(COUNT))


@in_jumping_time
async def test_a_problem_is_the_last_that_comes():
    ends = Ends(problem_at=2)
    found = [one async for one in parts_of(ends)]
    assert found[2:] == [PROBLEM]
    assert (ends.offered, ends.described) == ([0, 1], [0, 1, 2])


@in_jumping_time
async def test_what_an_end_raises_is_raised_at_its_part():
    parts = parts_of(Ends(error_at=1))
    await anext(parts)
    await settle()
    with pytest.raises(ConnectionResetError):
        await anext(parts)
    await parts.close()


@in_jumping_time
async def test_closed_they_leave_nothing_under_way():
    ends = Ends()
    parts = parts_of(ends)
    await anext(parts)
    await asyncio.sleep(0.5)
    assert ends.under_way == 1
    await parts.close()
    await parts.close()
    assert ends.under_way == 0
    assert len(asyncio.all_tasks()) == 1


# -- what is sent together

KIB = 1024


def grouped(lengths: list[int], missing: list[int]) -> list[list[tuple[int, int]]]:
    chunks = tuple(Chunk(bytes(32), length) for length in lengths)
    return list(groups_of(Offer(7, 5, chunks), missing))


@given(st.lists(st.integers(1, GROUP), max_size=60), st.data())
def test_each_missing_chunk_is_in_one_group(lengths, data):
    missing = sorted(data.draw(st.sets(st.sampled_from(range(len(lengths) or 1)))))
    missing = missing if lengths else []
    groups = grouped(lengths, missing)
    places = [(5 + sum(lengths[:one]), lengths[one]) for one in missing]
    assert sorted(itertools.chain(*groups)) == places
    assert all(sum(length for _, length in group) <= GROUP for group in groups)


def test_a_group_is_filled_up_by_what_comes_later():
    lengths = [600 * KIB, 400 * KIB, 500 * KIB, 200 * KIB, 96 * KIB, 300 * KIB]
    first, *rest = grouped(lengths, [0, 1, 2, 3, 4, 5])
    assert [length // KIB for _, length in first] == [600, 200, 96]
    assert [[size // KIB for _, size in group] for group in rest] == [[400, 300], [500]]


def test_no_chunk_waits_for_all_that_fit_behind_it():
    lengths = [600 * KIB, *[500 * KIB] * 40, 200 * KIB]
    groups = grouped(lengths, list(range(len(lengths))))
    pairs = [number for number, group in enumerate(groups) if len(group) == 2]
    assert pairs == [len(lengths) - 1 - AHEAD]


def test_a_chunk_that_is_too_large_goes_alone():
    assert grouped([2 * GROUP, 5], [0, 1]) == [[(5, 2 * GROUP)], [(5 + 2 * GROUP, 5)]]
