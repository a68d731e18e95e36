"""The last lines of what has come, as somebody who looks at it sees them."""

import pytest

from mlepool.client.listening.output import Output
from mlepool.client.listening.tails import MAX_BYTES, tail_of
from mlepool.wire.records import STDERR, STDOUT, YIELDED, Record
from mlepool.wire.yields import PROGRESS, VALUE, pack_yield


def output_of(*records: Record, limit: int = 1 << 20) -> Output:
    output = Output(limit=limit)
    output.expect_yields()
    for record in records:
        output.add([record])
    return output


def said(data: bytes, stream: int = STDOUT) -> Record:
    return Record(1.0, stream, data)


def test_they_come_in_their_order_with_their_streams():
    output = output_of(said(b"one\n"), said(b"bad\n", STDERR), said(b"two\nth"))
    assert tail_of(output, 9) == (
        [("stdout", "one"), ("stderr", "bad"), ("stdout", "two"), ("stdout", "th")],
        False,
    )


def test_of_many_the_last_are_given():
    output = output_of(said(b"".join(b"%d\n" % one for one in range(9))))
    assert tail_of(output, 2) == ([("stdout", "7"), ("stdout", "8")], True)


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ([b"10%\r", b"20%\r"], "20%"),
        ([b"10%\r20%\r", b"done\n"], "done"),
        ([b"10%\r", b"20%\r", b"30"], "30"),
    ],
)
def test_what_is_rewritten_stands_there_once(pieces, line):
    output = output_of(said(b"begin\n"), *map(said, pieces))
    assert tail_of(output, 9).lines == [("stdout", "begin"), ("stdout", line)]


def test_what_is_rewritten_keeps_its_place_beside_another_stream():
    records = said(b"10%\r20%"), said(b"odd\n", STDERR), said(b"\r100%\n")
    found = tail_of(output_of(*records), 9)
    assert found.lines == [("stdout", "100%"), ("stderr", "odd")]


def test_values_are_shown_and_progress_is_not():
    yields = [
        Record(0.0, YIELDED, piece)
        for kind, one in ((VALUE, {"a": 1}), (PROGRESS, [5.0]), (VALUE, "b"))
        for piece in pack_yield(kind, one)
    ]
    assert tail_of(output_of(*yields), 9).lines == [
        ("stdout", "{'a': 1}"),
        ("stdout", "'b'"),
    ]


def test_no_more_is_looked_at_than_can_be_done_often():
    many = b"x" * 99 + b"\n"
    output = output_of(*(said(many) for _ in range(1000)))
    lines, is_cut = tail_of(output, 10_000)
    assert is_cut
    assert {line for _, line in lines} == {"x" * 99}  # no half of one
    assert len(lines) == MAX_BYTES // 100 - 1 + bool(MAX_BYTES % 100)


def test_a_line_without_an_end_is_seen_in_part():
    found = tail_of(output_of(said(b"y" * 100_000)), 5)
    assert found == ([("stdout", "y" * MAX_BYTES)], True)


def test_what_has_left_memory_was_before():
    output = output_of(said(b"old\n"), said(b"new\n"), said(b"last\n"), limit=6)
    assert tail_of(output, 5).is_cut


def test_bytes_that_are_no_text_are_replaced():
    assert tail_of(output_of(said(b"\xff\n")), 5).lines == [("stdout", "\ufffd")]
