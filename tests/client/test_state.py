"""What a client knows of its worker."""

import pytest

from mlepool.client.state import MAX_NAMES, WorkerState
from mlepool.errors import RemoteProtocolError


def test_changes_are_put_in_and_those_that_are_none_are_not_told():
    state = WorkerState()
    assert state.replace({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert state.merge({"a": 1, "b": 3, "c": [4]}) == {"b": 3, "c": [4]}
    assert state.merge({"a": 1, "d": None}) == {}
    assert state.merge({"a": None}) == {"a": None}
    assert state.values == {"b": 3, "c": [4]}


def test_a_whole_new_state_tells_what_is_gone():
    state = WorkerState()
    state.replace({"a": 1, "b": 2, "c": 3})
    assert state.replace({"b": 2, "c": 4, "d": 5}) == {"a": None, "c": 4, "d": 5}
    assert state.values == {"b": 2, "c": 4, "d": 5}


def test_a_copy_is_one_to_its_depth():
    state = WorkerState()
    state.replace({"cpu": {"cores": [1, 2]}, "gpu": [{"name": "a100"}]})
    mine = state.copy()
    mine["cpu"]["cores"].append(3)
    mine["gpu"][0]["name"] = "none"
    assert state.values == {"cpu": {"cores": [1, 2]}, "gpu": [{"name": "a100"}]}


def test_who_holds_an_old_state_keeps_it():
    state = WorkerState()
    state.replace({"a": 1})
    old = state.values
    state.merge({"a": 2})
    assert old == {"a": 1}


@pytest.mark.parametrize("data", [None, 1, "text", [["a", 1]]])
def test_changes_without_names_are_an_error(data):
    with pytest.raises(RemoteProtocolError):
        WorkerState().merge(data)


def test_a_worker_cannot_tell_without_end():
    state = WorkerState()
    state.merge({str(number): 1 for number in range(MAX_NAMES)})
    with pytest.raises(RemoteProtocolError, match="over 4096 names"):
        state.merge({"more": 1})
