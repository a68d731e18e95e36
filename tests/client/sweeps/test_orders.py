"""What keywords of map() become: the head of a plan, or an error that helps."""

from pathlib import Path

import pytest

from mlepool.client.sweeps.orders import make_head


def head(command="echo {x}", *, axes=None, rows=None, **keywords):
    return make_head("id", command, keywords, axes=axes, rows=rows)


def test_keywords_are_parted_into_parameters_and_options():
    again = {"again": [1, 2]}  # no field has it: it is only repeated
    made = head(x=range(2), axes=again, gpus=1, timeout=3, retries=2, env={"A": "b"})
    assert made.axes == {"x": [0, 1], "again": [1, 2]}
    assert made.run == {"gpus": 1, "env": {"A": "b"}}
    assert (made.limit, made.retries, made.retries_lost) == (3.0, 2, 1)


def test_an_option_fills_a_field_and_axes_may_be_named_as_one():
    assert head("echo {gpus}", gpus=2).axes == {"gpus": [2]}
    made = head("echo {timeout}", axes={"timeout": [1, 2]})
    assert (made.axes, made.limit) == ({"timeout": [1, 2]}, None)


def test_options_have_fields_too():
    made = head(x=[1], cwd=Path("exp/{x}"), env={"N": "{run}"})
    assert made.run == {"cwd": "exp/{x}", "env": {"N": "{run}"}}
    with pytest.raises(ValueError, match="no values for {y}"):
        head(x=[1], cwd="exp/{y}")


def test_a_synced_folder_is_where_it_runs(tmp_path):
    made = head("echo", sync=tmp_path)
    place = {"source": str(tmp_path), "destination": tmp_path.name}
    assert (made.sync, made.run) == (place, {"cwd": tmp_path.name})
    with pytest.raises(ValueError, match="there is no folder"):
        head("echo", sync=tmp_path / "none")


def test_results_come_to_a_folder_for_each_run_wherever_one_goes_on():
    assert head("echo", collect="*.txt").collect_to == str(
        Path.cwd() / "sweep-id/{run}"
    )
    with pytest.raises(TypeError, match="no use without collect"):
        head("echo", collect_to="there")


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"timout": 3}, "did you mean 'timeout'"),
        ({"x": [1], "y": 3}, "'y' is no option"),
        ({"x": [1], "again": [1, 2]}, "axes={'again': ...} has any"),
        ({"x": [1], "retrys": [1, 2]}, "nor a field .* did you mean 'retries'"),
        ({"x": [1], "wheer": "gpu", "cwd": "{y}"}, "did you mean 'where'"),
        ({"x": [1], "gpus": "many"}, "gpus: "),
        ({"x": [1], "slots": 1.5}, "slots: "),
        ({"x": [1], "env": {"A": 1}}, "env: "),
        ({"x": [1], "max_failures": 0.5}, "max_failures: "),
        ({"x": [1], "input": "text"}, "'input' is no option"),
    ],
)
def test_a_keyword_that_makes_no_sense_is_a_type_error(keywords, text):
    with pytest.raises(TypeError, match=text):
        head(**keywords)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({}, "no values for {x}"),
        ({"x": []}, "x: there is no value"),
        ({"x": [1], "retries": -1}, "retries can't be -1"),
        ({"x": [1], "slots": {"a": -1}}, "slots can't be"),
        ({"x": [1], "lost_timeout": float("nan")}, "lost_timeout can't be"),
        ({"x": [1], "max_failures": "many"}, "'20%'"),
    ],
)
def test_a_value_that_can_not_be_is_a_value_error(keywords, text):
    with pytest.raises(ValueError, match=text):
        head(**keywords)


def test_so_many_failures_are_a_number_or_percent():
    assert head(x=[1], max_failures="20%").max_failures == "20%"
    assert head(x=[1], fail_fast=True).max_failures == 0
    assert head(x=[1]).max_failures is None
