"""How a connection follows samples: what it says, and what it makes of answers."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as some

from mlepool.client.telemetry import MetricsFeed
from mlepool.errors import RemoteProtocolError
from mlepool.wire.telemetry import JobSample, Sample
from tests.tools import in_jumping_time, steady


class Far:
    """The worker's end: takes what it is told, and answers when it likes."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []
        self.names: set[str] = set()
        self.is_first = True
        self.answers = asyncio.Event()
        self.answers.set()
        self.samples: list[Sample] = []
        self.feed = MetricsFeed("far", self.ask, self.samples.append)

    async def ask(self, name: str, arguments: dict[str, Any]) -> bool:
        self.names.add(arguments["follower"])
        self.told.append((arguments["after"], arguments["collects"]))
        await self.answers.wait()
        return self.is_first and arguments["collects"]

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def event(*ids: int, dropped: int = 0, **fields: Any) -> Any:
    sample = msgspec.msgpack.encode(Sample(**fields))
    return [dropped, [[number, sample] for number in ids]]


@in_jumping_time
async def test_nothing_is_said_before_somebody_wants_it_and_there_is_a_link():
    far = Far()
    far.feed.link_made()
    await far.turn()
    far.feed.link_gone()
    far.feed.collect()
    await far.turn()
    assert far.told == []
    far.feed.link_made()
    await far.turn()
    assert far.told == [(0, True)]


@in_jumping_time
async def test_what_is_delivered_is_said_and_what_comes_twice_is_passed_over():
    far = Far()
    far.feed.collect()
    far.feed.link_made()
    await far.turn()
    far.feed.take(event(3, 4, dropped=7))
    far.feed.take(event(4, 5))
    await far.turn()
    assert [(one.id, one.dropped) for one in far.samples] == [(3, 7), (4, 0), (5, 0)]
    assert far.told[-1] == (5, True)


@in_jumping_time
async def test_a_new_link_is_told_at_once_what_is_there_by_the_same_name():
    far = Far()
    far.feed.collect()
    far.feed.link_made()
    await far.turn()
    far.answers.clear()
    far.feed.take(event(3))
    await far.turn()
    far.feed.take(event(4))
    far.feed.link_gone()
    far.feed.link_made()
    await far.turn()
    far.answers.set()
    await far.turn()
    assert far.told == [(0, True), (3, True), (4, True)]
    assert len(far.names) == 1


@in_jumping_time
async def test_who_came_second_stays_second_and_says_no_more():
    far = Far()
    far.is_first = False
    far.feed.collect()
    far.feed.link_made()
    await far.turn()
    far.feed.take(event(3))
    await far.turn()
    far.is_first = True
    far.feed.link_gone()
    far.feed.link_made()
    await far.turn()
    assert [one.id for one in far.samples] == [3]
    assert far.told == [(0, True), (0, False)]


@in_jumping_time
async def test_who_looks_at_jobs_only_takes_nothing_from_others():
    far = Far()
    far.feed.link_made()
    assert far.feed.job("a") is None
    await far.turn()
    far.feed.take(event(3, time=20.0, jobs=(JobSample("a", rss=2),)))
    far.feed.take(event(2, time=10.0, jobs=(JobSample("a", rss=1),)))
    await far.turn()
    assert far.feed.job("a") == JobSample("a", rss=2)
    assert (far.samples, far.told) == ([], [(0, False)])
    far.feed.collect()
    await far.turn()
    far.feed.take(event(3))
    assert ([one.id for one in far.samples], far.told[1]) == ([3], (0, True))


odd = some.recursive(
    some.none() | some.integers() | some.text() | some.binary(max_size=20),
    lambda inner: some.lists(inner, max_size=3),
)


@steady
@given(odd | some.tuples(some.just(0), some.lists(some.tuples(some.integers(), odd))))
def test_an_event_that_holds_no_samples_is_the_workers_fault(data):
    feed = MetricsFeed("far", None, lambda sample: None)  # type: ignore[arg-type]
    try:
        feed.take(data)
    except RemoteProtocolError:
        return
    msgspec.convert(data, tuple[int, list[tuple[int, bytes]]])


def test_jobs_of_long_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr("mlepool.client.telemetry.MAX_JOBS", 2)
    feed = MetricsFeed("far", None, lambda sample: None)  # type: ignore[arg-type]
    feed.take(event(1, jobs=tuple(JobSample(name) for name in "abc")))
    assert [feed.job(name) is None for name in "abc"] == [True, False, False]


def test_a_sample_with_odd_bytes_in_it_is_refused():
    feed = MetricsFeed("far", None, lambda sample: None)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match="samples are wrong"):
        feed.take([0, [[1, b"\xc1"]]])
