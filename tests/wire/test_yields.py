"""What commands yield, as bytes: made, cut anywhere, taken apart."""

import contextlib
import datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.records import MAX_PAYLOAD
from mlepool.wire.yields import MAX_YIELD, PROGRESS, VALUE, YieldParser, pack_yield
from tests.tools import steady

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@steady
@given(st.lists(VALUES), st.integers(1, 7))
def test_values_come_back_however_many_a_record_has(values, count):
    parts = [part for one in values for part in pack_yield(VALUE, one)]
    records = [b"".join(parts[at : at + count]) for at in range(0, len(parts), count)]
    parser = YieldParser()
    got = [message for record in records for message in parser.feed(record)]
    assert got == [(VALUE, one) for one in values]


LARGE = b"x" * (3 * MAX_PAYLOAD)


def test_a_large_value_takes_several_records():
    parts = pack_yield(VALUE, LARGE)
    assert len(parts) == 4
    assert max(map(len, parts)) == MAX_PAYLOAD
    parser = YieldParser()
    seen = [(list(parser.feed(part)), parser.is_within) for part in parts]
    assert seen == [*[([], True)] * 3, ([(VALUE, LARGE)], False)]


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {3}, {0, 1}, {1, 2}, {2, 3}])
def test_whatever_part_of_a_value_is_missing_the_next_one_comes(lost):
    parts = pack_yield(VALUE, LARGE)
    kept = [part for number, part in enumerate(parts) if number not in lost]
    kept += pack_yield(VALUE, "next")
    parser = YieldParser()
    got = [message for part in kept for message in parser.feed(part)]
    assert got == [(VALUE, "next")]
    assert not parser.is_within


def test_a_time_comes_back_as_one():
    now = datetime.datetime.now(datetime.UTC)
    ((_, value),) = YieldParser().feed(b"".join(pack_yield(VALUE, [now])))
    assert value == [now]


def test_what_is_no_data_or_too_large_is_refused_here():
    with pytest.raises(LocalProtocolError, match="can be sent"):
        pack_yield(VALUE, object())
    assert pack_yield(VALUE, Path("/a")) == pack_yield(VALUE, "/a")
    with pytest.raises(LocalProtocolError, match="over"):
        pack_yield(VALUE, b"x" * (MAX_YIELD + 1))


def test_a_gap_loses_one_message_only():
    parser = YieldParser()
    assert not list(parser.feed(pack_yield(VALUE, "cut")[0][:-1]))
    parser.skip()
    assert list(parser.feed(pack_yield(PROGRESS, 1)[0])) == [(PROGRESS, 1)]


@steady
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_what_is_documented(data):
    with contextlib.suppress(RemoteProtocolError):
        list(YieldParser().feed(data))


@pytest.mark.parametrize("kind", [0, 3])
def test_a_kind_that_there_is_not_is_refused(kind):
    with pytest.raises(RemoteProtocolError, match="of the kind"):
        list(YieldParser().feed(b"".join(pack_yield(kind, None))))
