"""Data points in what jobs print: found wherever it is cut, and nothing else is."""

import json
import math

import pytest
from hypothesis import given, strategies as some

from mlepool.client.listening import points as module
from mlepool.client.listening.points import PointParser, Points, parse_point
from tests.tools import steady


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"#loss 3 0.25", ("loss", (3, 0.25))),
        (b"#loss 1", ("loss", (1,))),
        (b"#a\t-1\t+2.5e-3 .5 7. \r", ("a", (-1, 0.0025, 0.5, 7.0))),
        (b"#train/loss:0 1 inf", ("train/loss:0", (1, math.inf))),
        (b'{"metric": "loss", "step": 3, "value": 0.1}', ("loss", (3, 0.1))),
        (b'{"value": 2, "other": [1], "metric": "x"}\r', ("x", (2,))),
        ('{"metric": "Güte", "value": 1}'.encode(), ("Güte", (1,))),
    ],
)
def test_lines_that_are_points(line, found):
    assert parse_point(line) == found


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"#", b"# loss 1 2", b"#loss", b"#loss x", b"#loss 1 x", b"loss 1 2"),
        *(b"#!/bin/sh 1", b"#1 2", b"##a 1", b"#a 1_000", b"#a 0x10", b"#a 1,5"),
        *(b" #a 1", b"#a " + b"1 " * 17, b"#" + b"a" * 300 + b" 1", b"#a \xff"),
        *(b"{", b"{}", b'{"metric": "a"}', b'{"metric": 1, "value": 2}'),
        *(b'{"metric": "a", "value": true}', b'{"metric": "a", "value": "1"}'),
        *(b'{"metric": "a", "value": 1} x', b"{" * 60_000, b'{"metric": "\xff"}'),
        *(b"#a " + b"9" * 5000, b"#a 1 " + b" " * 70_000),
        b'{"metric": "a", "value": ' + b"9" * 5000 + b"}",
    ],
)
def test_lines_that_are_none(line):
    assert parse_point(line) is None


@steady
@given(some.binary(max_size=60), some.sampled_from([b"#a 1", b"{", b"#", b""]))
def test_odd_lines_raise_nothing(rest, start):
    parse_point(start + rest)


lines = some.lists(
    some.sampled_from(
        [b"#a 1 2", b'{"metric": "b", "value": 3}', b"x", b"", b"#", b"{", b"y#a 1 2"]
    )
)


@steady
@given(lines, some.data())
def test_points_are_found_wherever_output_is_cut(chosen, data):
    whole = b"\n".join(chosen)
    parser = PointParser()
    while whole:
        size = data.draw(some.integers(1, len(whole)))
        parser.feed(whole[:size])
        whole = whole[size:]
    parser.finish()
    expected: dict[str, list[tuple[int, ...]]] = {}
    expected["a"] = [(1, 2)] * chosen.count(b"#a 1 2")
    expected["b"] = [(3,)] * sum(one.startswith(b'{"m') for one in chosen)
    assert dict(parser.points) == {name: all for name, all in expected.items() if all}


def test_what_follows_a_gap_is_no_line_until_the_next():
    parser = PointParser()
    parser.feed(b"#a 1\n#a ")
    parser.skip()
    parser.feed(b"#a 2\n#a 3\n")
    assert parser.points["a"] == [(1,), (3,)]
    late = PointParser(is_start=False)
    late.feed(b"#a 2\n#a 3")
    late.finish()
    assert late.points["a"] == [(3,)]


def test_a_line_without_end_is_not_held():
    parser = PointParser()
    parser.feed(b"#a 1")
    for _ in range(100):
        parser.feed(b"1" * 1000)
    parser.feed(b"\n#a 2\n")
    assert parser.points["a"] == [(2,)]


def test_a_full_curve_keeps_its_shape(monkeypatch):
    monkeypatch.setattr(module, "MAX_POINTS", 8)
    monkeypatch.setattr(module, "MAX_NAMES", 1)
    points = Points()
    for number in range(12):
        points.add("a", (number,))
    assert points["a"] == [(0,), (2,), (4,), (6,), (8,), (9,), (10,), (11,)]
    assert points.thinned == 4
    points.add("b", (1,))
    assert (list(points), points.thinned) == (["a"], 5)


def test_rows_and_columns_are_what_a_table_is_made_of():
    points = Points()
    points.add("a", (3, 0.5))
    points.add("a", (4, 0.25, 9))
    points.add("b", (7,))
    rows = [
        {"name": "a", "x": 3, "y": 0.5},
        {"name": "a", "x": 4, "y": 0.25, "y2": 9},
        {"name": "b", "x": 0, "y": 7},
    ]
    assert points.rows() == json.loads(json.dumps(rows))
    assert points.frame() == {
        "name": ["a", "a", "b"],
        "x": [3, 4, 0],
        "y": [0.5, 0.25, 7],
        "y2": [None, 9, None],
    }
    assert repr(points) == "<Points a: 2, b: 1>"


@pytest.mark.real
def test_points_come_live_and_all_of_much_output(conn):
    # 1.2 MiB, of which half a MiB is held: the rest is read again.
    command = (
        "import sys\nfor i in range(2001):\n"
        " if i in (6, 2000): sys.stdin.readline()\n"
        " print(f'#n {i}', 'x' * 600, sep=chr(10))"
    )
    live = conn.run(
        ["python3", "-u", "-c", command], stdin=True, complete=False, memory=1
    )
    messages = iter(live)
    while next(messages) != "#n 5":
        pass
    assert live.points["n"][:5] == [(0,), (1,), (2,), (3,), (4,)]
    live.send_input("go\n")
    for _ in zip(range(3900), messages, strict=False):
        pass
    live.send_input("go\n")
    live.wait()
    assert live.points["n"] == [(number,) for number in range(2001)]
    late = conn.attach(live.id, memory=1).wait()
    assert late.points["n"] == live.points["n"]
    assert late.read_points()["n"] == live.points["n"]
