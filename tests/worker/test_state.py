"""The board that says a worker's state, and who tells what runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlepool.config import ListenAddress, WorkerConfig
from mlepool.worker.state import MAX_STATE, RunStatus, StateBoard, properties_of
from tests.tools import in_jumping_time


class Told:
    """A board, and what was told of it."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []
        self.board = StateBoard(self.changes.append)


@pytest.fixture
def told():
    return Told()


def test_only_what_is_another_value_is_told(told):
    told.board.update(a=1, b=[2])
    told.board.update(a=1, b=[2])
    told.board.update(a=1, b=[3])
    assert told.changes == [{"a": 1, "b": [2]}, {"b": [3]}]
    assert told.board.get() == {"a": 1, "b": [3]}


def test_none_takes_a_value_away(told):
    told.board.update(a=1)
    told.board.update(a=None)
    told.board.update(a=None, b=None)
    assert told.changes == [{"a": 1}, {"a": None}]
    assert told.board.get() == {}


def test_what_is_given_cannot_be_changed_through_what_was_asked_for(told):
    told.board.update(a=1)
    told.board.get()["a"] = 2
    assert told.board.get() == {"a": 1}


def test_a_secret_is_never_noted(told):
    for values in ({"api_key": 1}, {"a": {"b": [{"accessToken": 1}]}}):
        with pytest.raises(ValueError, match="it looks like a secret"):
            told.board.update(c=1, **values)
    assert told.board.get() == {}
    assert told.changes == []
    told.board.update(capabilities={"token": "a command of that name"})


def test_the_state_is_bounded(told):
    told.board.update(a="x" * 1000)
    with pytest.raises(ValueError, match="is over the limit of 262144"):
        told.board.update(b="x" * MAX_STATE)
    assert told.board.get() == {"a": "x" * 1000}
    told.board.update(a=None, b="x" * (MAX_STATE - 10))


@in_jumping_time
async def test_short_jobs_are_not_told_one_by_one():
    told, busy = Told(), [False]
    status = RunStatus(told.board, lambda: busy[0])
    assert told.changes == [{"run_status": "idle"}]
    for _ in range(1000):
        busy[0] = True
        status.note()
        await asyncio.sleep(0.001)
        busy[0] = False
        status.note()
        await asyncio.sleep(0.001)
    assert len(told.changes) <= 9  # eight times in two seconds
    busy[0] = True
    status.note()
    await asyncio.sleep(0.26)
    assert told.board.get() == {"run_status": "running"}
    busy[0] = False
    status.note()
    status.close()
    await asyncio.sleep(1)
    assert told.board.get() == {"run_status": "running"}


def test_properties_that_are_gone_are_taken_away():
    before = config(name="a", extra={"x": 1, "y": 2})
    after = config(name="b", extra={"y": 3}, labels={"l": "m"})
    assert properties_of(after, before=before) == {
        "x": None,
        "y": 3,
        "name": "b",
        "labels": {"l": "m"},
    }


def config(**changes: Any) -> WorkerConfig:
    place = Path("/nowhere")
    given = {"name": "me"} | changes
    return WorkerConfig(place, ListenAddress("", 0), root=place, **given)
