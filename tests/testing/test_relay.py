"""A relay never waits, and knows when it is due; more is tested through the proxy."""

import socket
from collections.abc import Iterator

import pytest

from mlepool.testing.relay import DIRECTIONS, END_LIMIT, Conditions, Cut, Relay, State


class Bench:
    """A relay between two socket pairs, driven by hand; time is what the test says."""

    def __init__(self) -> None:
        self.client, near = socket.socketpair()
        self.worker, far = socket.socketpair()
        self.conditions = {one: Conditions() for one in DIRECTIONS}
        self.cuts = 0
        for sock in (self.client, self.worker, near, far):
            sock.setblocking(False)
        self.relay = Relay(near, far, self.conditions, on_cut=self.count)
        self.relay.ready(far, 0.0)  # connected
        assert self.relay.state is State.OPEN

    def count(self) -> None:
        self.cuts += 1

    def at(self, now: float) -> float | None:
        """Do what there is to do at a time; give when there is more."""
        for sock, _ in list(self.relay.watched()):
            self.relay.ready(sock, now)
        self.relay.advance(now)
        return self.relay.next_due(now)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.relay.close()
    bench.client.close()
    bench.worker.close()


def test_an_idle_relay_has_nothing_due(bench):
    assert bench.at(0.0) is None


def test_a_delay_is_counted_from_when_a_byte_came(bench):
    bench.conditions["to_worker"].delay = 2.0
    bench.client.send(b"one")
    assert bench.at(10.0) == 2.0
    bench.client.send(b"two")
    assert bench.at(11.0) == 1.0
    assert bench.at(12.0) == 1.0
    assert bench.worker.recv(10) == b"one"
    assert bench.at(13.0) is None
    assert bench.worker.recv(10) == b"two"


@pytest.mark.parametrize(("rate", "piece"), [(1000.0, 10), (0.5, 1)])
def test_a_trickle_goes_in_even_pieces(bench, rate, piece):
    wait = piece / rate
    bench.conditions["to_client"].rate = rate
    bench.worker.send(bytes(100))
    assert bench.at(5.0) == pytest.approx(wait)
    assert len(bench.client.recv(100)) == piece
    assert bench.at(5.0 + wait / 2) == pytest.approx(wait / 2)
    bench.at(5.0 + wait * 1.01)
    assert len(bench.client.recv(100)) == piece
    assert bench.conditions["to_client"].forwarded == 2 * piece


def test_what_is_stalled_is_not_due(bench):
    bench.conditions["to_client"].delay = 1.0
    bench.worker.send(b"x")
    assert bench.at(0.0) == 1.0
    bench.conditions["to_client"].stalled = True
    assert bench.at(2.0) is None
    bench.conditions["to_client"].stalled = False
    bench.at(2.0)
    assert bench.client.recv(10) == b"x"


def test_a_cut_waits_for_both_ends_but_not_for_ever(bench):
    bench.relay.cut(Cut(), 1.0)
    assert (bench.relay.state, bench.cuts) == (State.ENDING, 1)
    assert bench.client.recv(1) == bench.worker.recv(1) == b""
    bench.client.send(b"dropped")
    assert bench.at(1.0) == END_LIMIT
    bench.client.close()
    assert bench.at(1.5) == END_LIMIT - 0.5
    bench.at(1.0 + END_LIMIT)
    assert bench.relay.state is State.OVER


def test_a_cut_relay_is_over_when_both_ends_have_closed(bench):
    bench.relay.cut(Cut(), 1.0)
    bench.client.close()
    bench.worker.close()
    bench.at(1.0)
    assert bench.relay.state is State.OVER


def test_only_the_newest_order_counts_and_none_after_the_end(bench):
    bench.relay.cut(Cut(5), 0.0)
    bench.relay.cut(Cut(7), 0.0)
    bench.client.send(b"123456789")
    bench.at(0.0)
    assert bench.worker.recv(10) == b"1234567"
    bench.relay.cut(Cut(), 0.0)
    bench.relay.silence()
    assert (bench.relay.state, bench.cuts) == (State.ENDING, 1)


def test_a_silent_relay_tells_nobody_and_is_over_when_both_ends_are(bench):
    bench.relay.silence()
    bench.client.close()
    bench.worker.send(b"dropped")
    bench.at(0.0)
    assert len(list(bench.relay.watched())) == 1
    with pytest.raises(BlockingIOError):
        bench.worker.recv(1)
    bench.worker.close()
    bench.at(0.0)
    assert bench.relay.state is State.OVER
