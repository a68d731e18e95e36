"""Whether anybody takes what a job writes: a clock of the tests' own."""

from mlepool.worker.following import STILL, Following


def test_the_first_look_is_news():
    following = Following()
    assert following.look([0], now=100.0)
    assert following.is_so


def test_a_reader_that_gets_on_follows():
    following = Following()
    following.look([0], now=100.0)
    for turn in range(1, 100):
        assert not following.look([turn], now=100.0 + turn * STILL / 2)
    assert following.is_so


def test_nobody_follows_once_all_have_stood_still():
    following = Following()
    following.look([7, 9], now=100.0)
    assert not following.look([7, 9], now=100.0 + STILL * 0.9)
    assert following.look([7, 9], now=100.0 + STILL)
    assert not following.is_so
    assert not following.look([7, 9], now=100.0 + STILL * 9)
    assert following.look([7, 10], now=200.0)
    assert following.is_so


def test_one_that_gets_on_is_enough():
    following = Following()
    for turn in range(100):
        following.look([7, turn, 9], now=100.0 + turn * STILL)
        assert following.is_so


def test_a_job_without_readers_is_followed_by_nobody():
    following = Following()
    assert following.look([], now=100.0)
    assert not following.is_so
    assert following.look([0], now=100.0)
    assert following.is_so
    assert following.look([], now=100.0)
    assert not following.is_so
