"""Bytes of a client, put where the accepting end says: frames, and what is no frame."""

import struct

import pytest
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol

from mlepool.testing.links import Recorder
from mlepool.transport.scratch import SCRATCH_SIZE
from mlepool.transport.websocket.end import WebSocketEnd
from mlepool.transport.websocket.link import MAX_FRAME, apply_mask

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGE = bytes(range(256)) * 1000
ORDER = [b"small", LARGE, b"", LARGE[::-1], b"last"]


class End(WebSocketEnd):
    """The accepting end, without a transport."""

    def __init__(self) -> None:
        protocol = ServerProtocol(max_size=MAX_FRAME)
        super().__init__(protocol, unmask=apply_mask)
        self.protocol = protocol
        self.seen: list[Event] = []

    def react(self) -> None:
        for event in self.protocol.events_received():
            self.seen.append(event)
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))

    def take(self, data: bytes, most: int) -> list[int]:
        """Take bytes as a transport would bring them; gives what room there was."""
        rooms = []
        while data:
            room = self.get_buffer(-1)
            rooms.append(len(room))
            count = min(len(room), most, len(data))
            room[:count] = data[:count]
            self.buffer_updated(count)
            data = data[count:]
        return rooms


def framed(payload: bytes, first: int = 0x82) -> bytes:
    head = struct.pack(">BBQ", first, 0xFF, len(payload))
    return head + b"mask" + apply_mask(payload, b"mask")


def opened() -> tuple[End, Recorder]:
    end, receiver = End(), Recorder()
    end.link.attach(receiver)
    end.take(REQUEST, 50)
    return end, receiver


@pytest.mark.parametrize("most", [1000, SCRATCH_SIZE, MAX_FRAME])
def test_frames_come_whole_whatever_the_pieces(most):
    end, receiver = opened()
    end.take(b"".join(map(framed, ORDER)), most)
    assert receiver.frames == [one for one in ORDER if one]
    (empty,) = end.seen[1:]  # that one is the library's
    assert isinstance(empty, Frame)
    assert empty.data == b""


def test_a_large_frame_has_its_place_once_one_has_come():
    end, _ = opened()
    assert max(end.take(framed(LARGE), MAX_FRAME)) == SCRATCH_SIZE
    first, *rest = end.take(framed(LARGE), MAX_FRAME)
    assert first == SCRATCH_SIZE
    assert rest == [len(framed(LARGE)) - SCRATCH_SIZE]


def test_nothing_is_a_frame_after_the_end():
    end, receiver = opened()
    end.eof_received()
    end.take(framed(b"too late"), MAX_FRAME)
    assert receiver.frames == []


def test_a_full_transport_is_told_to_the_link():
    end, _ = opened()
    end.pause_writing()
    assert end.link.is_full
    end.resume_writing()
    assert not end.link.is_full
