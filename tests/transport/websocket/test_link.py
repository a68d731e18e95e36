import pytest
from websockets.frames import Opcode

from mlepool.testing.links import Recorder
from mlepool.transport.websocket import (
    MAX_FRAME,
    link as websocket_link,
)
from mlepool.transport.websocket.client import dial_websocket
from mlepool.transport.websocket.link import PART
from tests.tools import (
    Accepted,
    in_real_time,
    listen,
    transport_of,
    url_of,
    websocket_links,
)
from tests.transport.strangers import (
    accept_then,
    from_client,
    from_server,
    strange_server,
    stranger_at,
)

BINARY, TEXT, CONT = Opcode.BINARY, Opcode.TEXT, Opcode.CONT
MAX_TURNS = 100_000
BROKE = "the other side broke the WebSocket protocol"


# -- frames in pieces


@in_real_time
async def test_fragments_are_joined_and_control_may_come_between():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    (await accepted.next()).attach(far)
    parts = [
        from_client(BINARY, b"", fin=False),
        from_client(CONT, b"one ", fin=False),
        from_client(Opcode.PING, b"still there?"),
        *[from_client(CONT, b"", fin=False)] * 1000,
        from_client(CONT, b"frame"),
        from_client(Opcode.PONG, b""),
        from_client(BINARY, b"", fin=False),
        from_client(CONT, b""),
    ]
    await stranger.says(b"".join(parts))
    await far.until(lambda: far.frames == [b"one frame", b""])
    pong = from_server(Opcode.PONG, b"still there?")
    assert await stranger.reader.readexactly(len(pong)) == pong
    stranger.leaves()
    await far.lost()


@pytest.mark.parametrize("over", [0, 1])
@in_real_time
async def test_fragments_together_keep_the_limit(over):
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    (await accepted.next()).attach(far)
    half = bytes(MAX_FRAME // 2)
    await stranger.says(from_client(BINARY, half, fin=False))
    await stranger.says(from_client(CONT, half + bytes(over)))
    if over:
        assert "exceeds limit of 1048576 bytes" in await far.lost()
        assert far.frames == []
    else:
        await far.until(lambda: far.frames == [half + half])
    stranger.leaves()
    await far.lost()


@in_real_time
async def test_a_part_of_a_frame_is_a_sign_of_life():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    (await accepted.next()).attach(far)
    frame = from_client(BINARY, b"payload")
    for number, byte in enumerate(frame[:-1]):
        await stranger.says(bytes([byte]))
        await far.noted(number + 1)
        assert far.frames == []
    await stranger.says(frame[-1:])
    await far.until(lambda: far.frames == [b"payload"])
    stranger.leaves()
    await far.lost()


@pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART - 1])
@in_real_time
async def test_large_frames_are_masked_part_by_part(identity, size):
    frame, far = (bytes(range(251)) * (size // 251 + 1))[:size], Recorder()
    async with websocket_links(identity) as pair:
        pair.accepted.attach(far)
        pair.dialled.send(frame)
        pair.dialled.send(b"after it")
        await far.until(lambda: far.frames == [frame, b"after it"])


# -- a server that breaks the protocol after the handshake


@pytest.mark.parametrize(
    "frames",
    [
        [from_server(TEXT, b"text")],
        [from_client(BINARY, b"masked")],
        [b"\xff" * 100],
        [b"\x82\x7f" + (MAX_FRAME + 1).to_bytes(8, "big")],
        [from_server(Opcode.CLOSE, b"")],
        [from_server(Opcode.CLOSE, (1000).to_bytes(2, "big") + b"so long")],
    ],
    ids=range(6),
)
@in_real_time
async def test_a_server_that_ends_but_keeps_tcp_open_is_left(frames):
    near = Recorder()
    good = from_server(BINARY, b"with the handshake")
    async with strange_server(accept_then(good, *frames)) as url:
        link = await dial_websocket(url, direct=True)
        link.attach(near)
        cause = await near.lost()
        assert near.frames == [b"with the handshake"]
        if frames[0][0] == 0x88:
            assert cause == "the other side closed the link"
        else:
            assert cause.startswith(BROKE)


# -- the end


@pytest.mark.parametrize("secure", [False, True])
@in_real_time
async def test_closing_does_not_wait_for_who_does_not_read(
    monkeypatch, identity, secure
):
    monkeypatch.setattr(websocket_link, "CLOSE_LIMIT", 0.05)
    async with websocket_links(identity if secure else None) as pair:
        near = Recorder()
        pair.dialled.attach(near)
        pair.stall()
        while not pair.dialled.is_full:
            pair.dialled.send(bytes(MAX_FRAME))
        pair.dialled.close()
        await near.lost()
        transport_of(pair.accepted).abort()


@in_real_time
async def test_a_fault_does_not_wait_for_who_does_not_read(monkeypatch):
    monkeypatch.setattr(websocket_link, "CLOSE_LIMIT", 0.05)
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    link = await accepted.next()
    link.attach(far)
    while not link.is_full:
        link.send(bytes(MAX_FRAME))
    await stranger.says(b"\xff" * 100)
    assert (await far.lost()).startswith(BROKE)


@pytest.mark.parametrize("secure", [False, True])
@in_real_time
async def test_a_broken_connection_is_a_loss_with_its_cause(identity, secure):
    async with websocket_links(identity if secure else None) as pair:
        near, far = Recorder(), Recorder()
        pair.dialled.attach(near)
        pair.accepted.attach(far)
        transport_of(pair.dialled).abort()
        assert await far.lost()
        assert await near.lost()


# -- what is known of the other end


@in_real_time
async def test_tls_shows_both_ends_the_same_key(identity):
    async with websocket_links(identity) as pair:
        assert pair.dialled.info.channel == identity.channel
        assert pair.accepted.info.channel == identity.channel
        assert not pair.accepted.info.is_local
        pair.dialled.close()


@in_real_time
async def test_addresses_are_those_of_the_other_end():
    accepted = Accepted()
    acceptor = await listen(accepted)
    near = await dial_websocket(url_of(acceptor), direct=True)
    far = await accepted.next()
    assert near.info.address == acceptor.address == f"127.0.0.1:{acceptor.port}"
    own = transport_of(near).get_extra_info("sockname")
    assert far.info.address == f"127.0.0.1:{own[1]}"
    near.close()
