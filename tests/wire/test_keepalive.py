"""Keep-alive: pings on idle links only, one at a time; how long they take; the end."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mlepool.wire.keepalive import (
    ASK_AFTER,
    FIRST_PING,
    OTHER_WAITS,
    PING_AFTER,
    SILENCE_LIMIT,
    KeepAlive,
)
from tests.tools import steady


def client(now: float = 0.0) -> KeepAlive:
    """A client whose first ping was answered after 0.1 s."""
    one = KeepAlive(now, begins=True)
    number = one.ping(now)
    assert number is not None
    one.heard = now + 0.1
    one.pong(number)
    return one


def test_a_client_measures_soon_and_a_worker_does_not():
    assert KeepAlive(5.0, begins=True).next_tick() == 5.0 + FIRST_PING
    idle = 5.0 + PING_AFTER + OTHER_WAITS
    assert KeepAlive(5.0, begins=False).next_tick() == idle


def test_there_is_no_round_trip_time_before_the_first_answer():
    one = KeepAlive(0.0, begins=True)
    assert one.rtt is None
    number = one.ping(1.0)
    assert one.rtt is None
    one.heard = 1.25
    one.pong(number or 0)
    assert one.rtt == 0.25


def test_the_round_trip_time_is_that_of_the_latest_ping():
    one = client()
    assert one.rtt == pytest.approx(0.1)
    number = one.ping(50.0)
    assert one.rtt == pytest.approx(0.1)
    one.heard = 53.0
    one.pong(number or 0)
    assert one.rtt == 3.0


def test_only_the_pong_of_the_ping_that_waits_counts():
    one = client()
    number = one.ping(10.0)
    assert number is not None
    one.heard = 11.0
    for other in (number - 1, number + 1, 0, -1):
        one.pong(other)
    assert one.rtt == pytest.approx(0.1)
    one.pong(number)
    one.heard = 12.0
    one.pong(number)
    assert one.rtt == 1.0


def test_there_is_one_ping_at_a_time():
    one = client()
    assert one.ping(30.0) is not None
    assert one.next_tick() == 30.0 + PING_AFTER
    assert one.ping(30.0 + PING_AFTER) is None
    assert one.next_tick() == one.heard + SILENCE_LIMIT


def test_who_sends_is_not_asked_to_ping_and_who_only_listens_is():
    one = client()
    one.heard = one.sent = 19.0
    assert one.next_tick() == 19.0 + PING_AFTER
    one.heard = 38.0  # the other side talks, and hears nothing from us
    assert one.next_tick() == 19.0 + PING_AFTER
    one.sent = 38.0
    assert one.next_tick() == 38.0 + PING_AFTER


def test_who_sends_and_hears_nothing_asks_before_giving_up():
    one = client()
    one.heard, one.sent = 10.0, 49.0
    assert one.next_tick() == 10.0 + ASK_AFTER
    one.ping(50.0)
    assert one.next_tick() == 10.0 + SILENCE_LIMIT  # sooner than the next look
    assert not one.is_silent(69.9)
    assert one.is_silent(70.0)


def test_of_two_idle_sides_one_pings():
    near, far = KeepAlive(0.0, begins=True), KeepAlive(0.0, begins=False)
    pings = {"near": 0, "far": 0}
    now = 0.0
    for _ in range(100):
        now = min(near.next_tick(), far.next_tick())
        name, one, other = "near", near, far
        if far.next_tick() <= now:
            name, one, other = "far", far, near
        number = one.ping(now)
        assert number is not None
        pings[name] += 1
        other.heard = other.sent = now + 0.1
        one.heard = now + 0.2
        one.pong(number)
    assert pings == {"near": 100, "far": 0}
    assert now == pytest.approx(FIRST_PING + 99 * PING_AFTER)


moments = st.lists(
    st.tuples(st.sampled_from(["hear", "send", "tick"]), st.floats(0, 30)), max_size=40
)


@steady
@given(moments, st.booleans())
def test_whatever_happens_pings_are_rare_and_the_end_comes_in_time(moments, begins):
    one, now = KeepAlive(0.0, begins=begins), 0.0
    pings: list[float] = []
    for what, pause in moments:
        now += pause
        if what == "hear":
            one.heard = now
            one.pong(len(pings))
        elif what == "send":
            one.sent = now
        elif one.is_silent(now):
            assert now - one.heard >= SILENCE_LIMIT
            break
        elif one.next_tick() <= now and one.ping(now) is not None:
            pings.append(now)
        assert one.next_tick() <= one.heard + SILENCE_LIMIT
    later = pings[1:] if begins else pings
    earlier = [0.0, *pings][: len(later)] if not begins else pings[:-1]
    assert all(b - a >= PING_AFTER for a, b in zip(earlier, later, strict=True))
