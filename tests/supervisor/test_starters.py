"""Starts side by side, in threads that have working directories of their own."""

import os
import threading
from pathlib import Path

import pytest

from mlepool.supervisor import starters as module
from mlepool.supervisor.starters import HELPERS, Starters


@pytest.fixture
def starters() -> Starters:
    starters = Starters()
    if not starters.is_able:
        pytest.skip("threads can't have working directories of their own here")
    return starters


def failing() -> int:
    raise FileNotFoundError(2, "nothing there")


def wrong() -> int:
    raise ValueError("odd")


def test_each_gives_its_own_result_or_what_it_raised(starters):
    numbers = [lambda number=number: number for number in range(20)]
    assert starters.call(numbers) == list(range(20))
    assert starters.call(numbers[:1]) == [0]
    assert starters.call([]) == []
    one, two, three, four = starters.call([failing, numbers[1], wrong, numbers[3]])
    assert (two, four) == (1, 3)
    assert isinstance(one, FileNotFoundError)
    assert isinstance(three, ValueError)
    (alone,) = starters.call([failing])
    assert isinstance(alone, FileNotFoundError)


def test_as_many_go_on_at_once_as_there_are_threads(starters):
    all_there = threading.Barrier(1 + HELPERS, timeout=20.0)
    places = starters.call([all_there.wait] * (1 + HELPERS))
    assert sorted(map(int, places)) == list(range(1 + HELPERS))


def test_a_working_directory_is_the_thread_s_own(starters, tmp_path):
    all_there = threading.Barrier(1 + HELPERS, timeout=20.0)
    here = os.getcwd()

    def go(folder: Path) -> str:
        before = os.getcwd()
        os.chdir(folder)
        try:
            all_there.wait()  # the others have gone elsewhere meanwhile
            return os.getcwd()
        finally:
            os.chdir(before)

    folders = [tmp_path / str(number) for number in range(1 + HELPERS)]
    for folder in folders:
        folder.mkdir()
    for _ in range(3):
        made = starters.call([lambda one=one: go(one) for one in folders])
        assert made == list(map(str, folders))
        assert os.getcwd() == here


def test_where_threads_cannot_have_one_the_caller_does_all(monkeypatch):
    monkeypatch.setattr(module, "_leave_working_directory", lambda: False)
    starters = Starters()
    assert not starters.is_able
    mine = threading.get_ident()
    assert starters.call([threading.get_ident] * 5) == [mine] * 5
