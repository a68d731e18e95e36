"""A job's output printed: raw, or by lines."""

import re
from datetime import datetime

import pytest

from mlepool.cli.records import RecordPrinter, View
from mlepool.wire.records import STDERR, STDOUT, Record

RAW = b"\xff\x00 odd \r\n10%\r20%\rno end"


def out(*pieces: bytes, begin: float = 1.0) -> list[Record]:
    """Records of stdout, one second from one to the next."""
    return [Record(begin + at, STDOUT, data) for at, data in enumerate(pieces)]


def show(view: View, *records: Record) -> None:
    printer = RecordPrinter(view)
    for record in records:
        printer.take([record])
    printer.finish()


def test_bytes_are_left_as_they_are(capfdbinary):
    show(View(), *out(RAW), Record(2.0, STDERR, b"err\xfe"))
    assert capfdbinary.readouterr() == (RAW, b"err\xfe")


def test_streams_that_go_to_one_place_keep_their_order(tmp_path, capfd):
    path = tmp_path / "both"
    with open(path, "ab") as file, pytest.MonkeyPatch.context() as patch:
        writer = type("Stream", (), {"buffer": file, "flush": file.flush})
        patch.setattr("sys.stdout", writer)
        patch.setattr("sys.stderr", writer)
        show(View(), *out(b"1"), Record(2.0, STDERR, b"2"), *out(b"3"))
    assert path.read_bytes() == b"123"


def test_a_view_of_one_stream_and_of_what_was_printed_since(capfdbinary):
    records = [*out(b"a", b"b", b"c"), Record(5.0, STDERR, b"e")]
    show(View(since=2.0, stream=STDOUT), *records)
    assert capfdbinary.readouterr() == (b"bc", b"")
    show(View(stream=STDERR), *records)
    assert capfdbinary.readouterr() == (b"", b"e")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, b""), (1, b"four"), (2, b"three\nfour"), (9, b"one\ntwo\nthree\nfour")],
)
def test_the_tail_is_the_last_lines_wherever_reads_have_cut_them(
    count, shown, capfdbinary
):
    show(View(tail=count), *out(b"one\ntw", b"o\nth", b"ree\nfo", b"ur"))
    assert capfdbinary.readouterr().out == shown


def test_what_follows_the_tail_is_raw(capfdbinary):
    printer = RecordPrinter(View(tail=1))
    printer.take(out(b"one\ntwo\nhal"))
    assert capfdbinary.readouterr().out == b""
    printer.end_history()
    printer.take(out(b"f\rnew"))
    printer.finish()
    assert capfdbinary.readouterr().out == b"half\rnew"


def test_timestamps_say_when_each_line_was_ended(capfd):
    show(View(timestamps=True), *out(b"one\ntw", b"o\n10%\r", b"20%\nend"))
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two", "20%", "end"]
    times = [datetime.fromisoformat(line.split()[0]).timestamp() for line in lines]
    assert times == [1.0, 2.0, 3.0, 3.0]


def test_a_line_that_is_printed_in_parts_has_one_timestamp(capfd):
    show(View(timestamps=True), *out(b"x" * 150_000, b"y\nz"))
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\S+ x{150000}y", lines[0])


def test_what_was_not_kept_is_told_of(capfdbinary):
    show(View(), *out(b"a"), Record(2.0, STDOUT, b"b", dropped=7))
    said = b"mlepool: 7 bytes of stdout were not kept\n"
    assert capfdbinary.readouterr() == (b"ab", said)
    show(View(tail=5), *out(b"a"), Record(2.0, STDOUT, b"b", dropped=7))
    assert b"[mlepool: 7 bytes of output were not kept]" in capfdbinary.readouterr().out
