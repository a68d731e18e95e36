"""Whatever the pieces, frames come out whole and the rest goes to the library."""

import itertools
import struct
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings, strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from mlepool.transport.scratch import keep_memory
from mlepool.transport.splitter import FEW, Bytes, Splitter
from mlepool.transport.websocket.link import apply_mask

LIMIT = 1024 * 1024
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def frame(payload: bytes, first: int = 0x82, mask: bytes = b"") -> bytes:
    size, masked = len(payload), 0x80 if mask else 0
    rest = mask + apply_mask(payload, mask) if mask else payload
    if size < 126:
        return bytes([first, masked | size]) + rest
    if size < 65536:
        return struct.pack(">BBH", first, masked | 126, size) + rest
    return struct.pack(">BBQ", first, masked | 127, size) + rest


def parts(splitter: Splitter, view: memoryview) -> Iterable[tuple[bool, Bytes]]:
    """Part bytes as an end does: at once what is one small frame."""
    alone = splitter.single(view)
    return splitter.feed(view) if alone is None else [(True, alone)]


def split(whole: bytes, *cuts: int) -> tuple[list[bytes], bytes]:
    """Feed bytes in pieces: the frames, and what went to the library."""
    splitter, frames, rest = Splitter(limit=LIMIT), [], b""
    for begin, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
        for is_frame, part in parts(splitter, memoryview(whole)[begin:end]):
            if is_frame:
                frames.append(bytes(part))
            else:
                rest += bytes(part)
    return frames, rest


def split_in_place(
    whole: bytes, most: int, splitter: Splitter | None = None
) -> tuple[list[bytes], bytes]:
    """The same, where the rest of a frame that has begun is put into its place."""
    splitter, frames, rest, at = splitter or Splitter(limit=LIMIT), [], b"", 0
    view = memoryview(whole)
    while at < len(whole):
        room = splitter.room()
        count = min(most, len(whole) - at, len(room) if room is not None else most)
        if room is not None:
            room[:count] = view[at : at + count]
            frame = splitter.fill(count)
            frames += [bytes(frame)] if frame is not None else []
        else:
            for is_frame, part in parts(splitter, view[at : at + count]):
                if is_frame:
                    frames.append(bytes(part))
                else:
                    rest += bytes(part)
        at += count
    return frames, rest


PAYLOADS = [bytes([one]) * size for one, size in enumerate((0, 1, 126, 65_535, 80_000))]
PING, PART = frame(b"ping", 0x89), frame(b"p" * 70_000, 0x02) + frame(b"end", 0x80)
FRAMES = [frame(payload) for payload in PAYLOADS]
MIXED = RESPONSE + PING.join(FRAMES) + PART + FRAMES[1] + FRAMES[4]
FOUND = [*PAYLOADS[1:], PAYLOADS[1], PAYLOADS[4]]
LEFT = RESPONSE + FRAMES[0] + 4 * PING + PART


@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_pieces_of_any_size_give_the_same(cuts):
    assert split(MIXED, *sorted(cuts)) == (FOUND, LEFT)


def test_byte_by_byte_it_is_the_same():
    ends = range(1, MIXED.index(FRAMES[3], len(RESPONSE)) + 30)
    assert split(MIXED, *ends) == (FOUND, LEFT)


@pytest.mark.parametrize("most", [1000, 16_384, 65_536, 100_000, 1_000_000])
def test_put_into_its_place_it_is_the_same(most):
    assert split_in_place(MIXED, most) == (FOUND, LEFT)


@pytest.mark.parametrize("most", [1000, 16_384, 65_537, 1_000_000])
def test_a_clients_frames_lose_their_masks(most):
    splitter = Splitter(limit=LIMIT, unmask=apply_mask)
    payloads = [bytes([one]) * size for one, size in enumerate((90_000, 5, 80_001) * 2)]
    masks = [bytes([200, one, 7, 1]) for one in range(len(payloads))]
    frames = [frame(one, mask=mask) for one, mask in zip(payloads, masks, strict=True)]
    whole = REQUEST + b"".join(frames)
    assert split_in_place(whole, most, splitter) == (payloads, REQUEST)


@pytest.mark.parametrize("size", [2, 125, 126, 65_535])
@pytest.mark.parametrize("mask", [b"", b"mask"])
def test_a_small_frame_that_comes_alone_is_taken_at_once(size, mask):
    splitter = Splitter(limit=LIMIT, unmask=apply_mask if mask else None)
    whole, payload = frame(b"x" * size, mask=mask), b"x" * size
    assert splitter.single(memoryview(whole)) is None  # in the handshake
    list(splitter.feed(memoryview(RESPONSE)))
    assert splitter.single(memoryview(whole)) == payload
    for wrong in (whole[:-1], whole + b"\x82", frame(b"x" * size, 0x02, mask)):
        assert splitter.single(memoryview(wrong)) is None
    assert list(splitter.feed(memoryview(whole[:1]))) == []
    assert splitter.single(memoryview(whole)) is None  # in another frame


@pytest.mark.parametrize(("count", "is_kept"), [(FEW - 1, True), (FEW, False)])
def test_room_for_large_frames_is_kept_over_a_few_small_ones(count, is_kept):
    splitter = Splitter(limit=LIMIT, unmask=apply_mask)
    large, small = (frame(bytes(size), mask=b"mask") for size in (90_000, 5))
    found, _ = split_in_place(REQUEST + large + count * small, 1000, splitter)
    assert len(found) == 1 + count
    list(splitter.feed(memoryview(large[:1000])))
    assert (splitter.room() is not None) is is_kept


@pytest.mark.parametrize(
    "wrong",
    [
        frame(bytes(100), 0x81),  # text
        frame(bytes(100), 0x80),  # the end of a fragmented message
        frame(bytes(100), 0x02) + frame(b"again"),  # instead of its next part
        frame(bytes(100), 0xC2),  # an extension nobody asked for
        frame(bytes(LIMIT + 1)),
        struct.pack(">BBQ", 0x82, 127, 2**64 - 1) + b"x" * 100_000,
        b"\x82\xff" + frame(bytes(100)),  # masked
    ],
)
def test_what_is_not_surely_ours_is_left_to_the_library(wrong):
    assert split(RESPONSE + wrong) == ([], RESPONSE + wrong)
    assert split(RESPONSE + wrong, len(RESPONSE) + 1) == ([], RESPONSE + wrong)


def test_a_client_that_announces_a_frame_takes_no_room_with_it():
    splitter = Splitter(limit=LIMIT, unmask=apply_mask)
    list(splitter.feed(memoryview(b"\r\n\r\n")))
    keep_memory()  # of which no byte is used
    tracemalloc.start()
    try:
        head = struct.pack(">BBQ", 0x82, 0xFF, LIMIT)
        assert list(splitter.feed(memoryview(head + b"mask" + b"a beginning"))) == []
        assert tracemalloc.get_traced_memory()[1] < LIMIT / 10
    finally:
        tracemalloc.stop()


def test_a_response_without_an_end_is_the_librarys():
    flood = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000
    assert split(flood, 5, 100) == ([], flood)


# -- with the library behind it, nothing is taken that it would not take alone

SMALL_LIMIT = 300
FORMS = {7: ">BB", 16: ">BBH", 64: ">BBQ"}


@st.composite
def any_frames(draw: st.DrawFn, *, masked: bool) -> bytes:
    """Make one frame, mostly right."""
    first = draw(st.sampled_from([0x82] * 6 + [0x02, 0x80, 0x00, 0x89, 0x8A]))
    if not draw(st.integers(0, 15)):
        first = draw(st.sampled_from([0x81, 0x88, 0xC2, 0x83, 0x09]))
    payload = draw(st.binary(max_size=20)) * draw(st.sampled_from([1, 1, 8, 16]))
    bits = draw(st.sampled_from([7 if len(payload) < 126 else 16, 16, 64]))
    is_masked = masked is bool(draw(st.integers(0, 30)))
    second = {7: len(payload), 16: 126, 64: 127}[bits] | (0x80 if is_masked else 0)
    sizes = (len(payload),) if bits > 7 else ()
    head = struct.pack(FORMS[bits], first, second, *sizes)
    mask = draw(st.binary(min_size=4, max_size=4)) if is_masked else b""
    return head + mask + (apply_mask(payload, mask) if mask else payload)


def opened(*, as_server: bool) -> ServerProtocol | ClientProtocol:
    """Give the library's protocol behind its handshake."""
    server = ServerProtocol(max_size=SMALL_LIMIT)
    if as_server:
        server.receive_data(REQUEST)
        (request,) = server.events_received()
        assert isinstance(request, Request)
        server.send_response(server.accept(request))
        return server
    client = ClientProtocol(parse_uri("ws://x/"), max_size=SMALL_LIMIT)
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    assert isinstance(client.events_received()[0], Response)
    return client


def binary(events: Sequence[object]) -> list[bytes]:
    """Pick the frames of whole binary messages."""
    frames = [event for event in events if isinstance(event, Frame)]
    return [
        bytes(one.data) for one in frames if one.opcode is Opcode.BINARY and one.fin
    ]


@settings(max_examples=50)
@given(st.data(), st.booleans())
def test_the_library_alone_would_take_the_same(data, as_server):
    frames = data.draw(st.lists(any_frames(masked=as_server), max_size=8))
    whole, ends = b"".join(frames), [0, *itertools.accumulate(map(len, frames))]
    places = st.sampled_from(ends) | st.integers(0, len(whole))  # frames alone, too
    cuts = sorted(data.draw(st.lists(places, max_size=10)))
    alone, behind = opened(as_server=as_server), opened(as_server=as_server)
    alone.receive_data(whole)
    unmask = apply_mask if as_server else None
    splitter, found = Splitter(limit=SMALL_LIMIT, unmask=unmask), []
    list(splitter.feed(memoryview(b"the handshake\r\n\r\n")))
    for begin, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
        for is_frame, part in parts(splitter, memoryview(whole)[begin:end]):
            if not is_frame:
                behind.receive_data(bytes(part))
                found += binary(behind.events_received())
            elif behind.state is State.OPEN:
                found.append(bytes(part))
    assert found == binary(alone.events_received())
    assert behind.state is alone.state
    assert behind.close_sent == alone.close_sent
    said, expected = map(b"".join, (behind.data_to_send(), alone.data_to_send()))
    assert len(said) == len(expected)  # a client's masks are random
