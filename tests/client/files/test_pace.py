"""When packing pays: links measured by what goes over them."""

import asyncio
import time
from typing import Any

import pytest

from mlepool.client.files.pace import FAST, LEAST, TRIPS, Pace
from mlepool.client.files.remote_trees import RemoteSource, RemoteTarget
from mlepool.files.base import Piece, SourceOptions, TargetOptions
from mlepool.files.pieces import PIECE
from mlepool.tree import FILE, Entry
from tests.tools import in_real_time


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(clock=clock)


@pytest.fixture
def go(pace, clock):
    def take(size: float, seconds: float, *, there: float = 0.0, part: float = 1.0):
        with pace.trip(size) as trip:
            clock.now += seconds
            trip.there, trip.part = there, part

    return take


def test_a_link_is_slow_until_it_was_fast(pace, go):
    assert pace.is_slow
    go(FAST, 1.01)
    assert pace.is_slow
    go(FAST, 1.0)
    assert not pace.is_slow


def test_a_fast_link_is_slow_again_when_it_was_for_a_while(pace, go):
    go(FAST, 0.5)
    for _ in range(TRIPS - 1):
        go(FAST, 5.0)
    assert not pace.is_slow
    go(FAST, 5.0)
    assert pace.is_slow


def test_the_time_that_the_worker_takes_is_not_the_links(pace, go):
    go(FAST, 3.0, there=2.0)
    assert not pace.is_slow


def test_what_was_packed_counts_as_what_it_was_then(pace, go):
    go(4 * FAST, 1.0, part=0.2)
    assert pace.is_slow


def test_what_little_there_is_tells_nothing(pace, go):
    go(LEAST - 1, 0.0)
    assert pace.is_slow
    go(LEAST, 0.0)
    assert not pace.is_slow


def test_what_is_ahead_counts_too(pace, clock):
    with pace.trip(FAST), pace.trip(FAST):
        clock.now += 2.0
    assert not pace.is_slow


def test_what_fails_counts_for_nothing(pace, go):
    with pytest.raises(OSError, match="no"), pace.trip(FAST):
        raise OSError("no")
    assert pace.is_slow
    go(FAST, 2.0)
    assert pace.is_slow  # nothing is ahead any more


class Asker:
    """A worker that takes its time, and says how much of it was its own."""

    def __init__(self, *, seconds: float = 0.0, is_own: bool = False) -> None:
        self._seconds = seconds
        self._is_own = is_own
        self.was_packed: list[bool] = []
        self.counts: list[int] = []

    async def ask(self, name: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        begin = time.monotonic()
        await asyncio.sleep(self._seconds)
        if name == "_tree_write":
            self.counts.append(len(arguments["pieces"]))
            return time.monotonic() - begin if self._is_own else 0.0
        self.was_packed.append(arguments["pack"])
        return [[2, 0, at, bytes(length)] for at, length in arguments["ranges"]]


@pytest.mark.parametrize(
    ("asker", "is_slow"),
    [
        (Asker(), False),
        (Asker(seconds=0.05), True),
        (Asker(seconds=0.05, is_own=True), False),
    ],
)
@in_real_time
async def test_a_target_wants_content_packed_if_its_link_is_slow(asker, is_slow):
    target = RemoteTarget(asker, b"tree", TargetOptions())
    assert target.wants_packed
    for _ in range(TRIPS):
        await target.write([Piece(0, 0, bytes(2 * LEAST))])
    assert target.wants_packed == is_slow


@pytest.mark.parametrize(
    ("asker", "is_slow"), [(Asker(), False), (Asker(seconds=0.05), True)]
)
@in_real_time
async def test_a_source_has_content_packed_if_its_link_is_slow(asker, is_slow):
    source = RemoteSource(asker, b"tree", SourceOptions())
    entry = Entry(b"file", FILE, 0o644, 2 * LEAST, 1)
    for _ in range(TRIPS + 1):
        await source.read(entry, 0, ranges=[(0, 2 * LEAST)])
    assert (asker.was_packed[0], asker.was_packed[-1]) == (True, is_slow)
    await source.read(entry, 0, ranges=[(0, 2 * LEAST)], pack=False)
    assert not asker.was_packed[-1]


@pytest.mark.parametrize(
    ("asker", "most"), [(Asker(), 8), (Asker(seconds=0.05), 3)], ids=["fast", "slow"]
)
@in_real_time
async def test_requests_are_larger_over_a_fast_link(asker, most):
    target = RemoteTarget(asker, b"tree", TargetOptions())
    pieces = [Piece(0, at * PIECE, bytes(PIECE)) for at in range(9)]
    for _ in range(TRIPS):
        await target.write(pieces)
    assert asker.counts[0] == 3  # nothing is known yet
    assert max(asker.counts) == most


@in_real_time
async def test_what_one_sync_has_measured_the_next_one_knows():
    asker, other = Asker(), Asker()
    for _ in range(TRIPS):
        first = RemoteTarget(asker, b"tree", TargetOptions())
        await first.write([Piece(0, 0, bytes(2 * LEAST))])
    assert not RemoteTarget(asker, b"another", TargetOptions()).wants_packed
    assert RemoteTarget(other, b"tree", TargetOptions()).wants_packed
    source = RemoteSource(asker, b"tree", SourceOptions())
    entry = Entry(b"file", FILE, 0o644, LEAST, 1)
    await source.read(entry, 0, ranges=[(0, LEAST)])
    assert asker.was_packed == [True]  # the other way
