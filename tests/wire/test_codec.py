import math
import struct
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.codec import (
    HEADER_SIZE,
    MAX_DATA,
    MAX_FRAME,
    Data,
    decode,
    encode,
    encode_data,
    sendable,
)
from mlepool.wire.messages import Event, Message, Ping
from tests.tools import steady
from tests.wire.cores import EACH_MESSAGE

GLIBC_MMAP_THRESHOLD = 128 * 1024  # bytes
LONGEST_CAUSE = 1000  # characters: an error is one line, whatever the peer sent

# What announces more than there is: 4 GB of array, map, text, bytes, extension.
HUGE = [
    head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")
]
NONCE = b"\xc4\x20" + bytes(32)
HELLO_WITHOUT_CAPABILITIES = b"\x97\x01\x01\x01\xa0\xa0" + NONCE
EVENT_WITHOUT_DATA = b"\x93\x0d\xa1a"

wire_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(0, 255), inner, max_size=4)
    ),
    max_leaves=6,
)
valid_frames = st.sampled_from([encode(message) for message in EACH_MESSAGE])


def decode_or_refuse(frame: bytes) -> Message | Data | None:
    """Decode; the only error may be the documented one, and its text is short."""
    try:
        return decode(frame)
    except RemoteProtocolError as exc:
        cause = str(exc)
    assert 0 < len(cause) <= LONGEST_CAUSE
    return None


# -- messages


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_each_message_comes_out_as_it_went_in(message):
    assert decode(encode(message)) == message


@steady
@given(wire_values)
def test_any_value_comes_out_as_it_went_in(value):
    assert decode(encode(Event("value", value))) == Event("value", value)


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda m: type(m).__name__)
def test_a_message_does_not_change_with_the_room_it_was_read_into(message):
    room = bytearray(encode(message))
    found = decode(memoryview(room))
    room[:] = b"\xc1" * len(room)  # no MessagePack: the next frame has come
    assert not isinstance(found, Data)
    assert encode(found) == encode(message)


def test_numbers_that_are_none_survive():
    event = decode(encode(Event("value", [math.inf, -math.inf, math.nan])))
    assert isinstance(event, Event)
    assert event.data[:2] == [math.inf, -math.inf]
    assert math.isnan(event.data[2])


@pytest.mark.parametrize(
    "value",
    [
        object(),
        2**64,
        -(2**63) - 1,
        "\udc80",
        {"\udc80": 1},
        1j,
        test_numbers_that_are_none_survive,
        memoryview(b"abcd")[::2],
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_cannot_be_encoded_is_our_own_error(value):
    with pytest.raises(LocalProtocolError, match="cannot send this"):
        encode(Event("value", value))


def test_a_name_that_is_no_text_is_said_to_go_as_bytes():
    text = r"'x.udcff' is no UTF-8; a path or argument may be bytes"
    with pytest.raises(LocalProtocolError, match=text):
        encode(Event("value", {"path": "x\udcff"}))
    assert encode(Event("value", {"path": b"x\xff"}))


def test_names_that_are_no_text_go_as_the_bytes_they_stand_for():
    event = Event("value", {"path": Path("x\udcff")})
    assert decode(encode(event)) == Event("value", {"path": b"x\xff"})
    assert sendable("x\udcff") == b"x\xff"
    assert [sendable(one) for one in ("x", "\xff", "\ud800")] == ["x", "\xff", "\ud800"]


def test_paths_go_as_text():
    event = Event("value", {"cwd": Path("exp/data")})
    assert decode(encode(event)) == Event("value", {"cwd": "exp/data"})


def test_what_has_no_form_on_the_wire_is_named():
    with pytest.raises(LocalProtocolError, match="^(.*: )?Decoder can't be sent"):
        encode(Event("value", {"decoder": msgspec.msgpack.Decoder()}))


def test_a_value_that_holds_itself_is_our_own_error():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(LocalProtocolError, match="recursion"):
        encode(Event("value", value))


def test_the_limit_holds_for_what_is_sent():
    overhead = len(encode(Event("a", bytes(MAX_DATA)))) - MAX_DATA
    largest = Event("a", bytes(MAX_FRAME - overhead))
    assert len(encode(largest)) == MAX_FRAME
    assert decode(encode(largest)) == largest
    with pytest.raises(LocalProtocolError, match="1048577 bytes is over the limit"):
        encode(Event("a", bytes(MAX_FRAME - overhead + 1)))


def test_the_limit_holds_for_what_is_received():
    message = encode(Event("a", bytes(MAX_FRAME - 12)))
    for frame in (message, encode_data(1, 0, bytes(MAX_FRAME - HEADER_SIZE))):
        padded = frame.ljust(MAX_FRAME, b"\0")
        assert len(padded) == MAX_FRAME
        with pytest.raises(RemoteProtocolError, match="1048577 bytes is over"):
            decode(padded + b"\0")


# -- data frames


def test_a_data_frame_comes_out_as_it_went_in():
    data = decode(encode_data(2**32 - 1, 2**64 - 1, b"journal bytes"))
    assert isinstance(data, Data)
    assert data.call == 2**32 - 1
    assert data.position == 2**64 - 1
    assert bytes(data.payload) == b"journal bytes"


def test_a_data_frames_payload_is_not_copied():
    frame = encode_data(1, 0, b"x")
    data = decode(frame)
    assert isinstance(data, Data)
    assert data.payload.obj is frame


def test_a_data_frame_may_be_empty_or_as_large_as_a_frame():
    for size in (0, 1, MAX_DATA, MAX_FRAME - HEADER_SIZE):
        data = decode(encode_data(1, 0, bytes(size)))
        assert isinstance(data, Data)
        assert len(data.payload) == size


def test_a_data_frame_stays_below_the_allocators_threshold():
    assert len(encode_data(1, 0, bytes(MAX_DATA))) < GLIBC_MMAP_THRESHOLD


@pytest.mark.parametrize("size", range(1, HEADER_SIZE))
def test_a_data_frame_without_a_whole_header_is_refused(size):
    with pytest.raises(RemoteProtocolError, match=f"data frame of {size} bytes is cut"):
        decode(encode_data(1, 0, b"")[:size])


def test_no_message_begins_like_a_data_frame():
    assert all(encode(message)[0] != 1 for message in EACH_MESSAGE)


# -- garbage


@steady
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_what_is_documented(frame):
    decode_or_refuse(frame)


@steady
@given(st.binary(max_size=60), st.integers(1, 20))
def test_random_fields_raise_only_what_is_documented(rest, tag):
    for length in range(6):
        decode_or_refuse(bytes([0x90 + length, tag]) + rest)


@steady
@given(st.lists(wire_values, max_size=6), st.integers(0, 15))
def test_fields_of_other_types_raise_only_what_is_documented(fields, tag):
    decode_or_refuse(msgspec.msgpack.encode([tag, *fields]))


@steady
@given(valid_frames, st.data())
def test_changed_bytes_raise_only_what_is_documented(frame, data):
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(frame) - 1))] = data.draw(
            st.integers(0, 255)
        )
    decode_or_refuse(bytes(changed))


@steady
@given(valid_frames, valid_frames, st.data())
def test_spliced_frames_raise_only_what_is_documented(first, second, data):
    cut = data.draw(st.integers(0, len(first)))
    decode_or_refuse(first[:cut] + second[data.draw(st.integers(0, len(second))) :])


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_a_cut_message_is_refused_wherever_it_is_cut(message):
    frame = encode(message)
    for end in range(len(frame)):
        with pytest.raises(RemoteProtocolError):
            decode(frame[:end])


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_bytes_after_a_message_are_refused(message):
    with pytest.raises(RemoteProtocolError, match="trailing"):
        decode(encode(message) + b"\0")


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x92\x05",
        EVENT_WITHOUT_DATA,
        EVENT_WITHOUT_DATA + b"\x81",
        HELLO_WITHOUT_CAPABILITIES,
        b"\x94\x03\xc4\x00\xa0",
    ],
)
def test_a_huge_length_that_is_not_there_is_refused_at_once(head, huge):
    for rest in (b"", bytes(1000)):
        with pytest.raises(RemoteProtocolError):
            decode(head + huge + rest)


@pytest.mark.parametrize("depth", [100, 10_000, MAX_FRAME - 100])
@pytest.mark.parametrize("nest", [b"\x91", b"\x81\x01", b"\x81\x91"])
def test_deep_nesting_is_refused_or_taken_but_never_a_crash(nest, depth):
    levels = nest * (depth // len(nest))
    decode_or_refuse(levels)
    decode_or_refuse(EVENT_WITHOUT_DATA + levels)
    decode_or_refuse(EVENT_WITHOUT_DATA + levels + b"\x01")
    decode_or_refuse(b"\x93\x05\x01" + levels + b"\x01")  # in a field nobody knows


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x80\x01",  # a map as a key
        b"\x81\xd4\x05\x01\x01",  # an extension as a key
        b"\xd7\xff" + b"\xff" * 8,  # a time with too many nanoseconds
        b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7,  # a time too late
        b"\xa2\xc3\x28",  # a text that is not UTF-8
        b"\x81\xa1\xff\x01",  # a key that is not UTF-8
        b"\xc1",  # a byte that MessagePack never uses
    ],
)
def test_values_that_python_cannot_hold_are_refused(data):
    with pytest.raises(RemoteProtocolError, match="not a message"):
        decode(EVENT_WITHOUT_DATA + data)


@steady
@example(b"\x91\x05")
@given(st.binary(max_size=300))
def test_what_is_taken_is_a_message_that_can_be_sent_again(frame):
    message = decode_or_refuse(frame)
    if isinstance(message, Data):
        payload = bytes(message.payload)
        assert encode_data(message.call, message.position, payload) == frame
    elif message is not None:
        assert isinstance(decode(encode(message)), type(message))


def test_a_tag_that_no_message_has_is_refused():
    for tag in (0, 17, 255, 2**32 - 1):
        with pytest.raises(RemoteProtocolError, match="Invalid value"):
            decode(msgspec.msgpack.encode([tag, 1]))


def test_a_message_without_its_tag_is_refused():
    for value in ([], None, {"number": 1}, "Ping", 5, [Ping()]):
        with pytest.raises(RemoteProtocolError, match="not a message"):
            decode(msgspec.msgpack.encode(value))


def test_a_header_is_thirteen_bytes_big_endian():
    frame = struct.pack(">BIQ", 1, 2, 3) + b"rest"
    assert encode_data(2, 3, b"rest") == frame
