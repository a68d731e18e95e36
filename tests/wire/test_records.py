import hypothesis.strategies as st
import pytest
from hypothesis import given

from mlepool.errors import RemoteProtocolError
from mlepool.wire.records import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    STDERR,
    STDOUT,
    Record,
    RecordParser,
    pack_header,
    unpack_header,
)
from tests.tools import steady


def journal(*outputs: tuple[int, bytes]) -> bytes:
    """Write what a supervisor would write: records of a stream and its bytes."""
    offsets = {STDOUT: 0, STDERR: 0}
    pieces = []
    for stream, data in outputs:
        pieces.append(pack_header(stream, len(data), offsets[stream], time=1.5) + data)
        offsets[stream] += len(data)
    return b"".join(pieces)


def record(stream: int, length: int, offset: int) -> bytes:
    return pack_header(stream, length, offset, time=0.0) + bytes(length)


def parse(parser: RecordParser, whole: bytes, size: int) -> list[Record]:
    records = []
    for at in range(0, len(whole), size):
        records += parser.feed(whole[at : at + size])
    return records


OUTPUTS = ((STDOUT, b"one"), (STDERR, b""), (STDERR, b"two" * 10), (STDOUT, b"3"))
RECORDS = [Record(1.5, stream, data) for stream, data in OUTPUTS]


@pytest.mark.parametrize("size", range(1, len(journal(*OUTPUTS)) + 1))
def test_records_come_out_whole_in_pieces_of_every_size(size):
    parser = RecordParser()
    assert parse(parser, journal(*OUTPUTS), size) == RECORDS
    assert parser.pending == 0


@pytest.mark.parametrize("first", range(len(journal(*OUTPUTS)) + 1))
def test_records_come_out_whole_wherever_the_bytes_are_cut(first):
    parser = RecordParser()
    whole = journal(*OUTPUTS)
    early = parser.feed(whole[:first])
    assert sum(HEADER_SIZE + len(one.data) for one in early) + parser.pending == first
    assert early + parser.feed(whole[first:]) == RECORDS
    assert parser.pending == 0


@steady
@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300))),
    st.lists(st.integers(0, 400)),
)
def test_any_output_comes_out_as_it_was_written(outputs, sizes):
    parser, whole, records = RecordParser(), journal(*outputs), []
    for size in sizes:
        records += parser.feed(memoryview(whole)[:size])
        whole = whole[size:]
    records += parser.feed(whole)
    assert [(one.stream, one.data) for one in records] == outputs
    assert not any(one.dropped for one in records)
    assert parser.pending == 0


def test_a_torn_record_is_held_back_and_counted():
    parser = RecordParser()
    whole = journal((STDOUT, b"whole"), (STDOUT, b"torn"))
    assert parser.feed(whole[:-1]) == [Record(1.5, STDOUT, b"whole")]
    assert parser.pending == HEADER_SIZE + 3
    assert parser.feed(b"") == []
    assert parser.pending == HEADER_SIZE + 3


def test_records_do_not_share_memory_with_what_was_fed():
    buffer = bytearray(journal((STDOUT, b"safe")))
    (one,) = RecordParser().feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert one.data == b"safe"


def test_a_half_record_does_not_share_memory_with_what_was_fed():
    parser = RecordParser()
    whole = journal((STDOUT, b"safe"))
    buffer = bytearray(whole[:-2])
    parser.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert parser.feed(whole[-2:]) == [Record(1.5, STDOUT, b"safe")]


def test_the_largest_record_passes_and_one_byte_more_does_not():
    (one,) = RecordParser().feed(record(STDOUT, MAX_PAYLOAD, 0))
    assert len(one.data) == MAX_PAYLOAD
    with pytest.raises(RemoteProtocolError, match=f"{MAX_PAYLOAD + 1} bytes"):
        RecordParser().feed(record(STDOUT, MAX_PAYLOAD + 1, 0))


@pytest.mark.parametrize(
    "header",
    [
        b"\x00" * HEADER_SIZE,
        b"\xff" * HEADER_SIZE,
        b"x" + record(STDOUT, 0, 0)[1:],
        record(0, 0, 0),
        record(4, 0, 0),
        record(255, 0, 0),
        pack_header(STDOUT, 2**32 - 1, 0, time=0.0),
    ],
)
def test_garbage_is_refused_as_soon_as_its_header_is_there(header):
    parser = RecordParser()
    assert parser.feed(header[:-1]) == []
    with pytest.raises(RemoteProtocolError, match="bad journal record"):
        parser.feed(header[-1:])
    with pytest.raises(RemoteProtocolError, match="bad journal record"):
        RecordParser().feed(header)
    with pytest.raises(RemoteProtocolError, match="bad journal record"):
        RecordParser().feed(journal(*OUTPUTS) + header)


def test_bytes_that_were_dropped_are_counted_stream_by_stream():
    parser = RecordParser()
    whole = record(STDOUT, 5, 0) + record(STDERR, 2, 7) + record(STDOUT, 1, 105)
    dropped = [(one.stream, one.dropped) for one in parser.feed(whole)]
    assert dropped == [(STDOUT, 0), (STDERR, 7), (STDOUT, 100)]


@pytest.mark.parametrize(("stream", "name"), [(STDOUT, "stdout"), (STDERR, "stderr")])
def test_a_stream_that_goes_back_is_refused(stream, name):
    parser = RecordParser()
    parser.feed(record(stream, 10, 0))
    with pytest.raises(RemoteProtocolError, match=f"{name} goes back from 10 to 9"):
        parser.feed(record(stream, 1, 9))


def test_a_reader_in_the_middle_takes_the_first_offsets_as_they_come():
    parser = RecordParser(checked=False)
    whole = record(STDOUT, 5, 1000) + record(STDERR, 5, 2000) + record(STDOUT, 5, 1007)
    assert [one.dropped for one in parser.feed(whole)] == [0, 0, 2]
    with pytest.raises(RemoteProtocolError, match="goes back"):
        parser.feed(record(STDERR, 5, 2004))


def test_the_greatest_offset_is_taken():
    (one,) = RecordParser().feed(record(STDOUT, 1, 2**64 - 1))
    assert one.dropped == 2**64 - 1


@steady
@given(st.binary(max_size=400), st.integers(1, 50))
def test_random_bytes_raise_only_what_is_documented(garbage, size):
    parser = RecordParser()
    try:
        parse(parser, b"M" + garbage, size)
    except RemoteProtocolError:
        return
    assert parser.pending <= 1 + len(garbage)


@steady
@given(st.data(), st.integers(1, 100))
def test_changed_journals_raise_only_what_is_documented(data, size):
    whole = bytearray(journal(*OUTPUTS))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        records = parse(RecordParser(), bytes(whole), size)
    except RemoteProtocolError:
        return
    assert sum(len(one.data) for one in records) <= len(whole)


def test_a_header_tells_how_long_its_payload_is():
    assert unpack_header(record(STDERR, 7, 99)[:HEADER_SIZE]) == 7
    assert unpack_header(record(STDOUT, 0, 0)) == 0
    assert unpack_header(record(STDOUT, MAX_PAYLOAD, 0)[:HEADER_SIZE]) == MAX_PAYLOAD


@pytest.mark.parametrize(
    "header",
    [
        b"",
        record(STDOUT, 0, 0)[:-1],
        b"x" + record(STDOUT, 0, 0)[1:],
        record(4, 0, 0),
        pack_header(STDOUT, MAX_PAYLOAD + 1, 0, time=0.0),
    ],
)
def test_what_is_no_header_is_known_as_such(header):
    assert unpack_header(header[:HEADER_SIZE]) is None
