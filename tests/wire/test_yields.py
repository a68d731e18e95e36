"""What commands yield, as bytes: made, cut anywhere, taken apart."""

import contextlib
import datetime

import pytest
from hypothesis import given, strategies as st

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.records import MAX_PAYLOAD
from mlepool.wire.yields import MAX_YIELD, PROGRESS, VALUE, YieldParser, pack_yield

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(VALUES), st.integers(1, 7))
def test_values_come_back_however_they_are_cut(values, size):
    data = b"".join(part for one in values for part in pack_yield(VALUE, one))
    parser = YieldParser()
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    got = [message for piece in pieces for message in parser.feed(piece)]
    assert got == [(VALUE, one) for one in values]


def test_a_large_value_takes_several_records():
    parts = pack_yield(VALUE, b"x" * (3 * MAX_PAYLOAD))
    assert len(parts) == 4
    assert max(map(len, parts)) == MAX_PAYLOAD


def test_a_time_comes_back_as_one():
    now = datetime.datetime.now(datetime.UTC)
    ((_, value),) = YieldParser().feed(b"".join(pack_yield(VALUE, [now])))
    assert value == [now]


def test_what_is_no_data_or_too_large_is_refused_here():
    with pytest.raises(LocalProtocolError, match="can be sent"):
        pack_yield(VALUE, object())
    with pytest.raises(LocalProtocolError, match="over"):
        pack_yield(VALUE, b"x" * (MAX_YIELD + 1))


def test_a_gap_loses_one_message_only():
    parser = YieldParser()
    assert not list(parser.feed(pack_yield(VALUE, "cut")[0][:-1]))
    parser.skip()
    assert list(parser.feed(pack_yield(PROGRESS, 1)[0])) == [(PROGRESS, 1)]


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_what_is_documented(data):
    with contextlib.suppress(RemoteProtocolError):
        list(YieldParser().feed(data))


@pytest.mark.parametrize("kind", [0, 3])
def test_a_kind_that_there_is_not_is_refused(kind):
    with pytest.raises(RemoteProtocolError, match="of the kind"):
        list(YieldParser().feed(b"".join(pack_yield(kind, None))))
