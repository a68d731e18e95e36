"""What a group's call may be told to keep to."""

import math

import pytest

from mlepool.client.groups.limits import Limits


@pytest.mark.parametrize(
    ("batch", "total", "sizes"),
    [
        (None, 8, [8, 8]),
        (3, 8, [3, 3]),
        ([1, 5, "20%"], 50, [1, 5, 10, 10]),
        ("20%", 3, [1, 1]),  # at least one
        ("12.5%", 8, [1]),
        ("100%", 7, [7]),
        ([1, 99], 4, [1, 99]),
    ],
)
def test_waves_have_the_sizes_that_were_asked_for(batch, total, sizes):
    limits = Limits.parse(batch=batch)
    assert [limits.wave_size(one, total) for one in range(len(sizes))] == sizes


@pytest.mark.parametrize(
    ("given", "total", "allowed"),
    [
        ({}, 8, math.inf),
        ({"max_failures": 2}, 8, 2),
        ({"max_failures": 0}, 8, 0),
        ({"max_failures": "10%"}, 8, 0),
        ({"max_failures": "10%"}, 29, 2),
        ({"max_failures": "100%"}, 8, 8),
        ({"fail_fast": True}, 8, 0),
        ({"fail_fast": True, "max_failures": 3}, 8, 0),
    ],
)
def test_so_many_may_fail(given, total, allowed):
    assert Limits.parse(**given).allowed(total) == allowed


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"max_parallel": 0}, ValueError, "max_parallel must be 1 or more, not 0"),
        ({"max_parallel": True}, TypeError, "max_parallel must be an int, not True"),
        ({"retries": -1}, ValueError, "retries must be 0 or more"),
        ({"retries": 1.5}, TypeError, "retries must be an int"),
        ({"batch": 0}, ValueError, "batch must be 1 or more"),
        ({"batch": []}, ValueError, "batch must have a size"),
        ({"batch": [1, "x%"]}, ValueError, "a part, as '20%', not 'x%'"),
        ({"batch": "20"}, ValueError, "a part, as '20%', not '20'"),
        ({"batch": "nan%"}, ValueError, "a part, as '20%'"),
        ({"max_failures": "101%"}, ValueError, "a part, as '20%'"),
        ({"max_failures": 1.0}, TypeError, "max_failures must be an int"),
        ({"fail_fast": 1}, TypeError, "fail_fast must be a bool"),
    ],
)
def test_what_can_not_be_is_said(given, kind, text):
    with pytest.raises(kind, match=text):
        Limits.parse(**given)
