"""Lines out of bytes: streams, encodings, rewritten lines, parts."""

import copy
import pickle

import pytest
from hypothesis import given, strategies as st

from mlepool.client.listening.lines import (
    MAX_PART,
    REWRITE_INTERVAL,
    BytesLine,
    Line,
    LineDecoder,
)
from mlepool.wire.records import STDERR, STDOUT, Record


def decode(*pieces, encoding="utf-8", stream=STDOUT, times=None):
    decoder = LineDecoder(encoding)
    lines: list[Line | BytesLine] = []
    for index, piece in enumerate(pieces):
        time = times[index] if times else float(index)
        lines += decoder.decode([Record(time, stream, piece)])
    return lines + decoder.finish()


def test_lines_know_their_stream_and_end():
    decoder = LineDecoder()
    records = [Record(0.0, STDOUT, b"one\n"), Record(0.0, STDERR, b"two\nthr")]
    lines = [*decoder.decode(records), *decoder.finish()]
    assert [(line, line.stream, line.end) for line in lines] == [
        ("one", "stdout", "\n"),
        ("two", "stderr", "\n"),
        ("thr", "stderr", ""),
    ]


# All that UTF-8 can say. (To say so by codec= takes seconds to make a table of it.)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\r")


@given(st.text(CHARACTERS), st.data())
def test_text_comes_through_whole_however_it_is_cut(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    edges = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    lines = decode(*pieces)
    assert "".join(line + line.end for line in lines) == text
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_split_after_decoding(encoding):
    text = "eins\nzwei \u00e4\nĊ" if encoding != "latin-1" else "eins\nzwei \u00e4\n"
    raw = text.encode(encoding)
    lines = decode(*(raw[i : i + 1] for i in range(len(raw))), encoding=encoding)
    assert "".join(line + line.end for line in lines) == text


def test_bytes_stay_bytes_without_an_encoding():
    lines = decode(b"\xff\xfe\n", b"\x00rest", encoding=None)
    assert lines == [b"\xff\xfe", b"\x00rest"]
    assert [(one.stream, one.end) for one in lines] == [
        ("stdout", "\n"),
        ("stdout", ""),
    ]


def test_bytes_that_are_no_text_are_replaced():
    assert decode(b"a\xffb\n") == ["a\ufffdb"]


def test_a_rewritten_line_gives_its_states_at_a_bounded_rate():
    pieces = [b"\r%d %%" % i for i in range(100)]
    times = [i * REWRITE_INTERVAL / 10 for i in range(100)]
    lines = decode(*pieces, b"\rdone\n", times=[*times, 100.0])
    states = [line for line in lines if line.end == "\r"]
    assert 8 <= len(states) <= 11
    assert lines[-1] == "done"
    assert lines[-1].end == "\n"


def test_returns_before_a_newline_are_part_of_the_newline():
    assert decode(b"one\r\ntwo\r\n") == ["one", "two"]


def test_a_state_that_ends_with_a_return_is_replaced_by_the_next():
    lines = decode(b"10%\r", b"20%\r", b"30%\r\n", times=[1.0, 1.01, 1.02])
    assert [(line, line.end) for line in lines] == [("10%", "\r"), ("30%", "\n")]


@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_a_long_line_comes_in_bounded_parts(encoding):
    piece = b"x" * 50_000
    lines = decode(*[piece] * 10, b"\n", encoding=encoding)
    assert sum(map(len, lines)) == 500_000
    assert max(map(len, lines)) <= MAX_PART + len(piece)
    assert {line.end for line in lines[:-1]} == {""}
    assert lines[-1].end == "\n"


@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_output_that_was_not_kept_is_said_in_the_stream(encoding):
    decoder = LineDecoder(encoding)
    first = Record(0.0, STDOUT, b"half a li")
    after = Record(1.0, STDOUT, b"on\n", dropped=77)
    lines = [*decoder.decode([first]), *decoder.decode([after])]
    texts = [one if isinstance(one, str) else one.decode() for one in lines]
    assert texts == ["half a li", "[mlepool: 77 bytes of output were not kept]", "on"]


def test_an_unknown_encoding_is_refused():
    with pytest.raises(LookupError):
        LineDecoder("no-such-encoding")


@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_lines_can_be_pickled_and_copied(encoding):
    lines = decode(b"one\ntw\xc3\xb6", encoding=encoding, stream=STDERR)
    for again in (pickle.loads(pickle.dumps(lines)), copy.deepcopy(lines)):
        assert again == lines
        assert [type(one) for one in again] == [type(one) for one in lines]
        assert [(one.stream, one.end) for one in again] == [
            ("stderr", "\n"),
            ("stderr", ""),
        ]
