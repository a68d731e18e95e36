"""Waves, limits on failures and retries: decided without hosts and without time."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mlepool.client.groups.limits import Limits
from mlepool.client.groups.waves import MAX_PAUSE, State, Verdict, Waves
from tests.tools import steady

NAMES = tuple("abcdefgh")
GOOD, BAD, AGAIN = Verdict.GOOD, Verdict.BAD, Verdict.AGAIN


def waves(names: Iterable[str] = NAMES, **limits: Any) -> Waves:
    return Waves(names, Limits.parse(**limits), uniform=lambda _, most: most)


def begun(one: Waves, now: float = 0.0) -> str:
    return "".join(one.next(now).begin)


def end(one: Waves, names: str, verdict: Verdict) -> None:
    for name in names:
        one.ended(name, verdict, now=0.0)


def test_all_begin_at_once_and_each_is_settled_once():
    one = waves()
    assert begun(one) == "abcdefgh"
    assert begun(one) == ""
    end(one, "ca", GOOD)
    assert one.next(0.0) == ([], ["c", "a"], [])
    end(one, "bdefgh", BAD)
    assert not one.cause
    assert one.next(0.0) == ([], list("bdefgh"), [])
    assert one.is_over
    assert one.failures == 6


def test_no_more_run_at_once_than_were_asked_for():
    one = waves(max_parallel=3)
    assert begun(one) == "abc"
    end(one, "b", BAD)
    assert begun(one) == "d"
    end(one, "ac", GOOD)
    assert begun(one) == "ef"


def test_many_may_begin_a_few_at_a_time():
    one = waves()
    begun_so_far = [one.next(0.0, most=3).begin for _ in range(4)]
    assert begun_so_far == [list("abc"), list("def"), list("gh"), []]


def test_a_wave_begins_once_the_last_one_has_ended():
    one = waves(batch=[1, 2, "50%"])
    assert begun(one) == "a"
    assert begun(one) == ""
    end(one, "a", GOOD)
    assert begun(one) == "bc"
    end(one, "b", BAD)
    assert begun(one) == ""
    end(one, "c", GOOD)
    assert begun(one) == "defg"
    end(one, "defg", GOOD)
    assert begun(one) == "h"
    end(one, "h", GOOD)
    assert begun(one) == ""
    assert one.is_over


def test_within_a_wave_the_limit_on_those_at_once_holds():
    one = waves(batch=4, max_parallel=3)
    assert begun(one) == "abc"
    end(one, "abc", GOOD)
    assert begun(one) == "d"


def test_a_wave_of_failures_alone_is_the_last_one():
    one = waves(batch=2)
    begun(one)
    end(one, "ab", BAD)
    assert one.next(0.0) == ([], ["a", "b"], list("cdefgh"))
    assert one.cause == "all hosts of wave 1 had failed"
    assert one.is_over


def test_unless_the_caller_has_said_how_many_may_fail():
    one = waves(batch=2, max_failures=2)
    begun(one)
    end(one, "ab", BAD)
    assert begun(one) == "cd"
    end(one, "c", BAD)
    assert one.next(0.0) == ([], ["c"], list("efgh"))
    assert one.cause == "3 of 8 hosts had failed"
    assert not one.is_over
    end(one, "d", GOOD)
    one.next(0.0)
    assert one.is_over


@pytest.mark.parametrize(("allowed", "failing"), [(0, 1), (2, 3), ("25%", 3)])
def test_with_one_failure_too_many_the_rest_is_skipped(allowed, failing):
    one = waves(max_parallel=4, max_failures=allowed)
    begun(one)
    end(one, "abcd"[: failing - 1], BAD)
    assert not one.cause
    end(one, "abcd"[failing - 1], BAD)
    assert one.cause == f"{failing} of 8 hosts had failed"
    decisions = one.next(0.0)
    assert decisions.begin == []
    assert decisions.skip == list("efgh")
    assert one.names(State.RUNNING) == list("abcd"[failing:])


def test_a_failure_is_repeated_after_a_pause_that_grows():
    one = waves("ab", retries=3)
    begun(one)
    now, pauses = 0.0, []
    for _ in range(3):
        one.ended("a", AGAIN, now=now)
        assert one.next(now) == ([], [], [])
        moment = one.next_time()
        assert moment is not None
        pauses.append(moment - now)
        assert begun(one, moment - 0.001) == ""
        now = moment
        assert begun(one, now) == "a"
    assert pauses == [1.0, 2.0, 4.0]
    one.ended("a", AGAIN, now=now)
    assert one.next(now).settle == ["a"]
    assert one.failures == 1


def test_a_pause_has_an_end_and_is_random_in_its_second_half():
    seen: list[tuple[float, float]] = []

    def most(*bounds: float) -> float:
        seen.append(bounds)  # type: ignore[arg-type]
        return bounds[1]

    one = Waves("a", Limits(retries=50), uniform=most)
    now = 0.0
    for _ in range(50):
        assert begun(one, now) == "a"
        one.ended("a", AGAIN, now=now)
        now = one.next_time() or 0.0
    assert seen[0] == (0.5, 1.0)
    assert max(seen) == (MAX_PAUSE / 2, MAX_PAUSE)


def test_a_wave_waits_for_those_that_are_tried_again():
    one = waves(batch=2, retries=1)
    begun(one)
    end(one, "a", GOOD)
    end(one, "b", AGAIN)
    assert begun(one) == ""
    assert begun(one, 1.0) == "b"
    one.ended("b", GOOD, now=1.5)
    assert begun(one, 1.5) == "cd"


def test_what_can_not_be_repeated_is_not():
    one = waves("a", retries=5)
    begun(one)
    end(one, "a", BAD)
    assert one.next(0.0).settle == ["a"]
    assert one.is_over


def test_halted_nothing_begins_and_nothing_is_repeated():
    one = waves(max_parallel=2, retries=2)
    begun(one)
    end(one, "a", AGAIN)
    one.halt("of this")
    assert one.next(9.0) == ([], ["a"], list("cdefgh"))
    end(one, "b", AGAIN)
    assert one.next(9.0) == ([], ["b"], [])
    assert one.is_over
    one.halt("of that")
    assert one.cause == "of this"


def test_one_host_can_be_dropped_before_it_begins():
    one = waves("abcd", batch=2, max_parallel=1, retries=1)
    assert begun(one) == "a"
    one.drop("b")
    one.drop("d")
    one.drop("a")  # it runs: that is for others to stop
    end(one, "a", AGAIN)
    one.drop("a")
    decisions = one.next(0.0)
    assert decisions == ([], ["a"], ["b", "d", "c"])
    assert one.is_over


def test_no_host_is_a_call_that_is_over():
    one = waves("")
    assert one.next(0.0) == ([], [], [])
    assert one.is_over
    assert one.next_time() is None


@st.composite
def limits(draw) -> Limits:
    sizes = st.integers(1, 5) | st.sampled_from(["10%", "50%", "100%"])
    return Limits.parse(
        max_parallel=draw(st.none() | st.integers(1, 4)),
        batch=draw(st.none() | st.lists(sizes, min_size=1, max_size=3)),
        max_failures=draw(st.none() | st.integers(0, 4) | st.just("20%")),
        retries=draw(st.integers(0, 2)),
    )


@steady
@given(st.integers(0, 12), limits(), st.data())
def test_whatever_ends_when_each_host_ends_once_within_the_limits(total, kept, data):
    names = [str(number) for number in range(total)]
    one = Waves(names, kept, uniform=lambda _, most: most)
    running: list[str] = []
    fates: list[str] = []
    begun_times: list[str] = []
    now = 0.0
    decisions = one.next(now)
    while not one.is_over:
        running += decisions.begin
        begun_times += decisions.begin
        assert len(set(running)) == len(running) <= (kept.max_parallel or total)
        assert not (one.cause and decisions.begin)
        if running:
            name = data.draw(st.sampled_from(running))
            running.remove(name)
            one.ended(name, data.draw(st.sampled_from(Verdict)), now=now)
        else:
            moment = one.next_time()
            assert moment is not None  # else nothing would ever go on
            now = moment
        fates += [*decisions.settle, *decisions.skip]
        decisions = one.next(now)
    assert sorted([*fates, *decisions.settle, *decisions.skip]) == sorted(names)
    assert not running
    assert all(begun_times.count(name) <= kept.retries + 1 for name in names)
    assert bool(one.cause) >= bool(one.names(State.SKIPPED))
