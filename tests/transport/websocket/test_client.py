"""What can't be dialled, and what is said of it."""

import asyncio
import re
import socket

import pytest

from mlepool.errors import LinkError
from mlepool.transport.websocket.client import dial_websocket
from tests.tools import in_real_time
from tests.transport.strangers import just_say, strange_server


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
