import asyncio
import re
import socket

import pytest
from websockets.frames import Opcode

from mlepool.errors import LinkError
from mlepool.testing.links import Recorder
from mlepool.transport.websocket import (
    MAX_FRAME,
    link as websocket_link,
)
from mlepool.transport.websocket.client import dial_websocket
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
    just_say,
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


# -- what can't be dialled


@in_real_time
async def test_nobody_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(LinkError, match="connection refused; no worker") as caught:
            await dial_websocket(f"ws://{host}:{port}", direct=True)
        assert caught.value.kind == "refused"


@in_real_time
async def test_the_host_is_unknown(monkeypatch):
    def unknown(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LinkError, match="unknown host") as caught:
        await dial_websocket("ws://gpu1.invalid:9922", direct=True)
    assert caught.value.kind == "unknown host"


@pytest.mark.parametrize(
    "url", ["ws://a..b:1", "ws://127.0.0.1:99999", "ws://" + "a" * 300 + ":1"]
)
@in_real_time
async def test_the_address_is_no_address(url):
    with pytest.raises(LinkError, match="not usable"):
        await dial_websocket(url, direct=True)


@in_real_time
async def test_the_url_has_no_host():
    with pytest.raises(LinkError, match="valid URI"):
        await dial_websocket("ws://", direct=True)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not answer as an mlepool worker does"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not answer as an mlepool worker does"),
        (b"", "does not answer as an mlepool worker does"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works!",
            "HTTP 200: It works!",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "HTTP 502: not an mlepool worker",
        ),
        (
            b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n\x1b[31mred\xff",
            "HTTP 500: [31mred\ufffd",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "missing Connection header"),
    ],
)
@in_real_time
async def test_something_else_listens_there(answer, cause):
    async with strange_server(just_say(answer)) as url:
        with pytest.raises(LinkError, match=re.escape(cause)) as caught:
            await dial_websocket(url, direct=True)
        assert caught.value.kind == "http"


@in_real_time
async def test_something_that_breaks_off_listens_there():
    async with strange_server(lambda stranger, _: stranger.leaves()) as url:
        with pytest.raises(LinkError, match="does not answer as an mlepool worker"):
            await dial_websocket(url, direct=True)


@in_real_time
async def test_something_that_is_not_tls_listens_there():
    async with strange_server(just_say(b"SSH-2.0-OpenSSH_9.9\r\n")) as url:
        with pytest.raises(LinkError, match="does not speak TLS") as caught:
            await dial_websocket(url.replace("ws:", "wss:"), direct=True)
        assert caught.value.kind == "tls"


@in_real_time
async def test_a_dial_that_takes_too_long_leaves_nothing_open():
    async with strange_server(lambda stranger, data: None) as url:
        for scheme in ("ws:", "wss:"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await dial_websocket(url.replace("ws:", scheme), direct=True)


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
