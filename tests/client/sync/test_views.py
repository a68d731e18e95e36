"""Views follow what they show, and leave no thread behind."""

import threading

import pytest

from mlepool.client.sync.views import INTERVAL, MAX_VIEWS, Painter, Viewed
from tests.conftest import wait_until


class Clock:
    """A view that counts how often it was refreshed, and ends."""

    def __init__(self, *, rounds: int, fails: bool = False) -> None:
        self.rounds = rounds
        self.fails = fails
        self.count = 0

    def refresh(self) -> bool:
        self.count += 1
        if self.fails:
            raise RuntimeError("nobody shows this any more")
        return self.count < self.rounds


@pytest.fixture
def painter():
    made = Painter()
    yield made
    made.end()
    wait_until(lambda: not threads())


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "mlepool views"]


def test_a_view_is_refreshed_until_its_end_and_then_the_thread_is_gone(painter):
    views = [Clock(rounds=2), Clock(rounds=1)]
    for one in views:
        painter.add(one)
    assert threads() == ["mlepool views"]  # one for all
    wait_until(lambda: not threads())
    assert [one.count for one in views] == [2, 1]
    again = Clock(rounds=1)
    painter.add(again)
    wait_until(lambda: not threads())
    assert again.count == 1


def test_one_that_can_t_be_shown_any_more_ends_no_other(painter):
    broken, other = Clock(rounds=9, fails=True), Clock(rounds=3)
    painter.add(broken)
    painter.add(other)
    wait_until(lambda: not threads())
    assert (broken.count, other.count) == (1, 3)


def test_the_last_state_is_shown_at_the_end(painter):
    endless = Clock(rounds=1 << 60)
    painter.add(endless)
    painter.end()
    assert endless.count >= 1
    wait_until(lambda: not threads())


def test_no_more_are_followed_than_can_be(painter):
    views = [Clock(rounds=1 << 60) for _ in range(MAX_VIEWS + 1)]
    for one in views:
        painter.add(one)
    painter.end()
    assert [one.count > 0 for one in views] == [False, *[True] * MAX_VIEWS]


def test_it_is_at_most_four_times_a_second():
    assert INTERVAL >= 0.25


def test_outside_of_a_notebook_it_is_shown_as_any_object():
    with pytest.raises(NotImplementedError):
        Viewed()._ipython_display_()
