"""Whatever the pieces, large frames come out whole and the rest goes to the library."""

import struct

import pytest
from hypothesis import given, strategies as st

from mlepool.transport.splitter import MIN_LARGE, Splitter

LIMIT = 1024 * 1024
RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def frame(payload: bytes, first: int = 0x82) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    if size < 65536:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


def split(whole: bytes, *cuts: int) -> tuple[list[bytes], bytes]:
    """Feed bytes in pieces: the large frames, and what went to the library."""
    splitter, frames, rest = Splitter(limit=LIMIT), [], b""
    for begin, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
        for is_frame, part in splitter.feed(memoryview(whole)[begin:end]):
            if is_frame:
                frames.append(bytes(part))
            else:
                rest += bytes(part)
    return frames, rest


def split_in_place(whole: bytes, most: int) -> tuple[list[bytes], bytes]:
    """The same, where the rest of a frame that has begun is put into its place."""
    splitter, frames, rest, at = Splitter(limit=LIMIT), [], b"", 0
    view = memoryview(whole)
    while at < len(whole):
        room = splitter.room()
        count = min(most, len(whole) - at, len(room) if room is not None else most)
        if room is not None:
            room[:count] = view[at : at + count]
            frame = splitter.fill(count)
            frames += [bytes(frame)] if frame is not None else []
        else:
            for is_frame, part in splitter.feed(view[at : at + count]):
                if is_frame:
                    frames.append(bytes(part))
                else:
                    rest += bytes(part)
        at += count
    return frames, rest


LARGE = [bytes([one]) * (MIN_LARGE + one * 200) for one in (0, 1, 200)]
SMALL = [frame(b"x"), frame(b""), frame(b"y" * 126), frame(b"z" * 65535)]
PING, PART = frame(b"ping", 0x89), frame(b"p" * 70_000, 0x02)
MIXED = RESPONSE + b"".join(
    [SMALL[0], frame(LARGE[0]), PING, frame(LARGE[1]), *SMALL, PART, frame(LARGE[2])]
)
LEFT = RESPONSE + b"".join([SMALL[0], PING, *SMALL, PART])


@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_pieces_of_any_size_give_the_same(cuts):
    assert split(MIXED, *sorted(cuts)) == (LARGE, LEFT)


def test_byte_by_byte_it_is_the_same():
    ends = range(1, len(RESPONSE) + len(SMALL[0]) + 30)
    assert split(MIXED, *ends) == (LARGE, LEFT)


@pytest.mark.parametrize("most", [1000, 16_384, 65_536, 100_000, 1_000_000])
def test_put_into_its_place_it_is_the_same(most):
    assert split_in_place(MIXED, most) == (LARGE, LEFT)


@pytest.mark.parametrize(
    "wrong",
    [
        frame(bytes(MIN_LARGE), 0x81),  # text
        frame(bytes(MIN_LARGE), 0x80),  # the end of a fragmented message
        frame(bytes(MIN_LARGE), 0xC2),  # an extension nobody asked for
        frame(bytes(LIMIT + 1)),
        struct.pack(">BBQ", 0x82, 127, 5) + b"short",
        struct.pack(">BBQ", 0x82, 127, 2**64 - 1) + b"x" * 100_000,
        b"\x82\xff" + frame(bytes(MIN_LARGE)),  # masked
    ],
)
def test_what_is_not_surely_ours_is_left_to_the_library(wrong):
    assert split(RESPONSE + wrong) == ([], RESPONSE + wrong)
    assert split(RESPONSE + wrong, len(RESPONSE) + 1) == ([], RESPONSE + wrong)


def test_a_response_without_an_end_is_the_librarys():
    flood = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000
    assert split(flood, 5, 100) == ([], flood)
