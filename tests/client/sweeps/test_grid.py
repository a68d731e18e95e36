"""Combinations of parameters, by number."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.client.sweeps import grid
from mlepool.client.sweeps.grid import MAX_RUNS, Grid, read_axis, read_rows

AXES = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(0, 9), min_size=1, max_size=4)
)


@given(AXES)
def test_every_combination_is_there_once_and_the_last_axis_turns_fastest(axes):
    made = Grid(axes)
    wanted = [
        dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())
    ]
    assert [made[number] for number in range(len(made))] == wanted
    for number in (-1, len(made)):
        with pytest.raises(IndexError, match=str(len(made))):
            made[number]


def test_rows_are_combined_with_axes_and_turn_slowest():
    made = Grid({"seed": [0, 1]}, [{"lr": 1}, {"lr": 2}])
    assert made.names == ("lr", "seed")
    assert [tuple(made[number].values()) for number in range(4)] == [
        *((1, 0), (1, 1)),
        *((2, 0), (2, 1)),
    ]


def test_as_many_runs_as_may_be_and_one_more():
    assert len(Grid({"a": range(MAX_RUNS)})) == MAX_RUNS
    with pytest.raises(ValueError, match=f"{MAX_RUNS + 1} runs"):
        Grid({"a": range(MAX_RUNS + 1)})


def test_a_parameter_has_no_name_of_a_column_and_none_twice():
    with pytest.raises(ValueError, match="'status' can't be a parameter"):
        Grid({"status": [1]})
    with pytest.raises(ValueError, match="'a' is both"):
        Grid({"a": [1]}, [{"a": 2}])


class Number(float):
    def item(self):
        return float(self)


def test_values_become_what_a_file_can_hold():
    assert read_axis("a", range(3)) == [0, 1, 2]
    assert read_axis("a", (one for one in "ab")) == ["a", "b"]
    assert read_axis("a", "ab") == ["ab"]
    assert read_axis("a", None) == [None]
    assert read_axis("a", [Path("x"), True]) == ["x", True]
    assert type(read_axis("a", [Number(2)])[0]) is float


@pytest.mark.parametrize("values", [{1, 2}, {"a": 1}, b"x", [object()], [[1]]])
def test_what_is_no_axis_is_refused(values):
    with pytest.raises(TypeError, match="a: "):
        read_axis("a", values)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf], itertools.count()])
def test_values_that_can_not_be_are_refused(values, monkeypatch):
    monkeypatch.setattr(grid, "MAX_RUNS", 1000)
    with pytest.raises(ValueError, match="a: "):
        read_axis("a", values)


def test_rows_are_alike():
    assert read_rows([{"a": 1}, {"a": 2}]) == [{"a": 1}, {"a": 2}]
    for rows in ([], [{"a": 1}, {"b": 1}]):
        with pytest.raises(ValueError, match="rows: "):
            read_rows(rows)
    with pytest.raises(TypeError, match="rows: each is a dict"):
        read_rows([3])  # type: ignore[list-item]
