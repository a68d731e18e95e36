"""The supervisor's end of its socket, over a real pair of sockets."""

import socket
import struct
from collections.abc import Iterator

import pytest

from mlepool.errors import RemoteProtocolError
from mlepool.supervisor.channel import FRAMES_AT_ONCE, MAX_FRAME, Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_frames_come_whole_however_their_bytes_are_cut(pair):
    channel, theirs = pair
    data = framed(b"one") + framed(b"") + framed(b"x" * 1000)
    frames = []
    for at in range(0, len(data), 7):
        theirs.sendall(data[at : at + 7])
        frames += channel.receive()
    assert frames == [b"one", b"", b"x" * 1000]


def test_many_frames_come_some_at_a_time_and_before_the_end(pair):
    channel, theirs = pair
    data = [b"%d" % number for number in range(2 * FRAMES_AT_ONCE + 1)]
    theirs.sendall(b"".join(map(framed, data)) + b"\0")
    theirs.close()
    taken = [channel.receive()]
    while channel.has_frames:
        taken.append(channel.receive())
    assert [len(some) for some in taken] == [FRAMES_AT_ONCE, FRAMES_AT_ONCE, 1]
    assert [frame for some in taken for frame in some] == data
    with pytest.raises(EOFError):
        channel.receive()


def test_nothing_there_is_no_frame(pair):
    assert pair[0].receive() == []


def test_a_closed_worker_is_an_end(pair):
    channel, theirs = pair
    theirs.sendall(b"\0\0")
    theirs.close()
    assert channel.receive() == []
    with pytest.raises(EOFError):
        channel.receive()


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_over_the_limit_is_refused_before_it_comes(pair, length):
    channel, theirs = pair
    theirs.sendall(struct.pack(">I", length))
    with pytest.raises(RemoteProtocolError, match=f"a frame of {length} bytes"):
        channel.receive()


def test_a_frame_at_the_limit_is_taken_and_sent(pair):
    channel, theirs = pair
    frame = bytes(MAX_FRAME)
    channel.send(frame)
    theirs.setblocking(False)
    back = bytearray()
    while len(back) < MAX_FRAME + 4:
        channel.flush()
        back += theirs.recv(2**20)
    assert not channel.has_backlog
    frames: list[bytes] = []
    while not frames:
        if back:
            del back[: theirs.send(back[:65536])]
        frames += channel.receive()
    assert frames == [frame]


def test_what_the_worker_does_not_read_waits_and_blocks_nobody(pair):
    channel, theirs = pair
    while not channel.has_backlog:
        channel.send(bytes(100_000))
        channel.flush()
    channel.send(b"last")
    channel.flush()
    theirs.setblocking(True)
    got = bytearray()
    while not got.endswith(framed(b"last")):
        got += theirs.recv(2**20)
        channel.flush()
    assert not channel.has_backlog


def test_a_worker_that_is_gone_is_an_os_error_on_flush(pair):
    channel, theirs = pair
    theirs.close()
    channel.send(b"x")
    with pytest.raises(BrokenPipeError):
        channel.flush()
