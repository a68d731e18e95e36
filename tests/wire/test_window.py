import hypothesis.strategies as st
import pytest
from hypothesis import given

from mlepool.wire.window import ReceiveWindow, SendWindow
from tests.tools import steady


def test_a_sender_may_send_as_much_as_its_window():
    window = SendWindow(100, 10)
    assert window.allowed == 10
    window.sent(4)
    assert (window.position, window.allowed) == (104, 6)
    window.sent(6)
    assert window.allowed == 0


def test_credit_is_a_position_so_repeating_it_gives_nothing():
    window = SendWindow(0, 10)
    window.sent(10)
    window.grant(15)
    window.grant(15)
    assert window.allowed == 5


def test_late_credit_takes_nothing_back():
    window = SendWindow(0, 10)
    window.grant(20)
    window.grant(5)
    assert window.allowed == 20


def test_what_went_over_the_window_leaves_nothing_allowed():
    window = SendWindow(0, 10)
    window.sent(12)
    assert window.allowed == 0
    window.grant(12)
    assert window.allowed == 0
    window.grant(13)
    assert window.allowed == 1


@pytest.mark.parametrize(
    ("consumed", "limit"), [(0, None), (4, None), (5, 15), (9, 19), (10, 20)]
)
def test_credit_is_given_when_half_of_the_window_is_used(consumed, limit):
    assert ReceiveWindow(0, 10).consumed(consumed) == limit


def test_an_odd_window_is_given_again_when_over_half_is_used():
    window = ReceiveWindow(100, 3)
    assert window.consumed(101) is None
    assert window.consumed(102) == 105


def test_credit_is_given_once_for_the_same_place():
    window = ReceiveWindow(0, 10)
    assert window.consumed(6) == 16
    assert window.consumed(6) is None


@steady
@given(st.integers(1, 100), st.lists(st.integers(1, 100), max_size=200))
def test_a_sender_never_outruns_its_receiver_and_never_starves(window, pieces):
    sender, receiver = SendWindow(0, window), ReceiveWindow(0, window)
    consumed = 0
    for piece in pieces:
        size = min(piece, sender.allowed)
        assert size > 0, "all is consumed, but there is no credit"
        sender.sent(size)
        assert sender.position <= receiver.limit
        assert sender.position - consumed <= window
        consumed = sender.position
        credit = receiver.consumed(consumed)
        if credit is not None:
            sender.grant(credit)
