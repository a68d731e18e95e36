"""Strangers at a port: how long they may take, how many there may be, what they get."""

import asyncio
import errno
import functools
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from mlepool.errors import LinkError
from mlepool.testing.links import Recorder
from mlepool.transport import accepting, tcp
from mlepool.transport.base import Link
from mlepool.transport.tcp import SPEAKS_PLAIN, SPEAKS_TLS, name_of, open_listeners
from mlepool.transport.websocket import (
    listen_websocket,
)
from mlepool.transport.websocket.client import dial_websocket
from mlepool.transport.websocket.server import _ServerEnd
from tests.tools import Accepted, in_real_time, listen, url_of
from tests.transport.strangers import UPGRADE, request, stranger_at

MAX_TURNS = 100_000


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something was logged: nothing else tells of it."""
    for _ in range(MAX_TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


# -- limits of the handshake


@pytest.mark.parametrize("beginning", [b"", b"G", request(*UPGRADE.items())[:-1]])
@pytest.mark.parametrize("secure", [False, True])
@in_real_time
async def test_a_slow_handshake_is_given_up(
    caplog, monkeypatch, identity, *, beginning, secure
):
    monkeypatch.setattr(tcp, "HANDSHAKE_LIMIT", 0.05)
    acceptor = await listen(Accepted(), identity if secure else None)
    stranger = await stranger_at(acceptor)
    await stranger.says(b"\x16\x03\x01" if secure and beginning else beginning)
    assert await stranger.hears() == b""
    stranger.leaves()
    await acceptor.close()
    assert "no handshake within 0.05 s" in caplog.text


@in_real_time
async def test_who_is_being_turned_away_is_not_listened_to_for_ever(
    caplog, monkeypatch, identity
):
    monkeypatch.setattr(tcp, "HANDSHAKE_LIMIT", 0.05)
    acceptor = await listen(Accepted(), identity)
    stranger = await stranger_at(acceptor)
    await stranger.says(b"GET / ")
    assert SPEAKS_TLS.encode() in await stranger.hears()
    await turns_until(lambda: "no handshake within 0.05 s" in caplog.text)


@pytest.fixture
def few_places(monkeypatch):
    """Two strangers at once, and little patience with the slow."""
    monkeypatch.setattr(tcp, "MAX_STRANGERS", 2)
    monkeypatch.setattr(tcp, "SILENT_LIMIT", 0.1)
    monkeypatch.setattr(tcp, "SLOW_LIMIT", 0.3)


@pytest.mark.usefixtures("few_places")
@in_real_time
async def test_the_oldest_silent_one_makes_room_for_who_comes(caplog):
    acceptor = await listen(Accepted())
    slow = await stranger_at(acceptor)
    await slow.says(b"GET / ")
    silent = await stranger_at(acceptor)
    near = await dial_websocket(url_of(acceptor), direct=True)
    assert await silent.hears() == b""
    assert caplog.text.count("too slow, others wait") == 1
    await slow.says(b"HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await slow.hears()).startswith(b"HTTP/1.1 426 ")
    near.close()


@pytest.mark.usefixtures("few_places")
@in_real_time
async def test_so_does_one_that_takes_too_long(caplog):
    acceptor = await listen(Accepted())
    slow = [await stranger_at(acceptor) for _ in range(2)]
    for one in slow:
        await one.says(b"GET / ")
    near = await dial_websocket(url_of(acceptor), direct=True)
    assert await slow[0].hears() == b""
    assert caplog.text.count("too slow, others wait") == 1
    near.close()


@pytest.mark.usefixtures("few_places")
@in_real_time
async def test_who_comes_waits_for_those_that_are_not_slow(monkeypatch, caplog):
    monkeypatch.setattr(tcp, "SILENT_LIMIT", 60.0)
    acceptor = await listen(Accepted())
    quick = [await stranger_at(acceptor) for _ in range(2)]
    dialling = asyncio.create_task(dial_websocket(url_of(acceptor), direct=True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await asyncio.shield(dialling)
    quick[1].leaves()
    (await dialling).close()
    assert "others wait" not in caplog.text


@in_real_time
async def test_a_host_that_takes_all_places_loses_its_own(monkeypatch):
    monkeypatch.setattr(tcp, "MAX_STRANGERS", 3)
    monkeypatch.setattr(tcp, "SILENT_LIMIT", 0.2)
    acceptor = await listen(Accepted())
    first = await stranger_at(acceptor, "127.0.0.2")
    many = [await stranger_at(acceptor) for _ in range(6)]
    for one in many[:4]:
        assert await one.hears() == b""
    for one in (first, *many[4:]):
        await one.says(request())
        assert (await one.hears()).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("secure", [False, True])
@in_real_time
async def test_a_crowd_that_says_nothing_keeps_nobody_out(identity, *, secure):
    acceptor = await listen(Accepted(), identity if secure else None)
    crowd = [await stranger_at(acceptor) for _ in range(200)]
    async with asyncio.timeout(tcp.HANDSHAKE_LIMIT / 2):
        near = await dial_websocket(url_of(acceptor, secure=secure), direct=True)
    await turns_until(lambda: len(acceptor._strangers) < tcp.MAX_STRANGERS)
    near.close()
    for one in crowd:
        one.leaves()


@in_real_time
async def test_a_crowd_that_is_honest_gets_in(caplog):
    url = url_of(await listen(Accepted()))
    async with asyncio.TaskGroup() as group:
        crowd = [
            group.create_task(dial_websocket(url, direct=True))
            for _ in range(tcp.MAX_STRANGERS + 20)
        ]
    assert "refused" not in caplog.text
    for one in crowd:
        one.result().close()


@in_real_time
async def test_who_leaves_without_a_word_is_no_tls_client(caplog):
    acceptor = await listen(Accepted())
    stranger = await stranger_at(acceptor)
    stranger.writer.close()
    await turns_until(lambda: "refused" in caplog.text)
    assert "it left without a word" in caplog.text


@pytest.mark.parametrize("beginning", [b"", b"G", b"\x16"])
@in_real_time
async def test_closing_the_acceptor_ends_handshakes_and_leaves_links(
    identity, beginning
):
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted, identity if beginning == b"\x16" else None)
    url = url_of(acceptor, secure=beginning == b"\x16")
    near = await dial_websocket(url, direct=True)
    link = await accepted.next()
    strangers = [await stranger_at(acceptor) for _ in range(3)]
    for stranger in strangers:
        await stranger.says(beginning)
    await acceptor.close()
    for stranger in strangers:
        assert await stranger.hears() == b""
        stranger.leaves()
    link.attach(far)
    near.send(b"still here")
    await far.until(lambda: far.frames == [b"still here"])
    near.close()
    await far.lost()
    with pytest.raises(LinkError):
        await dial_websocket(url, direct=True)


@in_real_time
async def test_closing_the_acceptor_in_the_turn_of_the_handshake_leaves_the_link():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    closing: list[asyncio.Task[None]] = []

    def accept_and_close(link: Link) -> None:
        accepted(link)
        closing.append(asyncio.create_task(acceptor.close()))

    acceptor._factory = functools.partial(
        _ServerEnd, accept_and_close, b"", answer=lambda _: None, is_private=False
    )
    near = await dial_websocket(url_of(acceptor), direct=True)
    await closing[0]
    (await accepted.next()).attach(far)
    near.send(b"still here")
    await far.until(lambda: far.frames == [b"still here"])
    near.close()


# -- listening


@in_real_time
async def test_a_port_that_is_taken_is_a_plain_error():
    acceptor = await listen(Accepted())
    with pytest.raises(LinkError, match=f"{acceptor.port}: the port is already in use"):
        await listen_websocket("127.0.0.1", acceptor.port, Accepted())


@pytest.mark.parametrize("host", ["gpu1.invalid", "a..b"])
@in_real_time
async def test_a_host_that_is_not_ours_is_a_plain_error(monkeypatch, host):
    def unknown(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if host.endswith(".invalid"):
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LinkError, match=f"cannot listen on {host}:1"):
        await open_listeners(host, 1)


@pytest.mark.parametrize("dualstack", [True, False])
@in_real_time
async def test_no_host_is_every_interface(monkeypatch, dualstack):
    asked: list[Any] = []
    create_server = socket.create_server

    def on_loopback(address: Any, **options: Any) -> socket.socket:
        asked.append((address, options.get("family"), options.get("dualstack_ipv6")))
        return create_server(("127.0.0.1", 0))

    monkeypatch.setattr(socket, "create_server", on_loopback)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dualstack)
    for listener in await open_listeners("", 9922):
        listener.close()
    if dualstack:
        assert asked == [(("::", 9922), socket.AF_INET6, True)]
    else:
        assert asked[0][0] in {("0.0.0.0", 9922), ("::", 9922)}


@in_real_time
async def test_a_failed_accept_is_logged_and_tried_again(caplog, monkeypatch):
    monkeypatch.setattr(accepting, "ACCEPT_PAUSE", 0.0)
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failures = [OSError(errno.ENFILE, "full"), OSError(errno.EMFILE, "full")]

    async def accept_at_last(listener: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", accept_at_last)
    accepted = Accepted()
    acceptor = await listen(accepted)
    near = await dial_websocket(url_of(acceptor), direct=True)
    assert await accepted.next()
    near.close()
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1  # more would come each second, as long as it lasts
    assert "this process has too many files open" in caplog.text


@in_real_time
async def test_closing_twice_is_fine():
    acceptor = await listen(Accepted())
    await acceptor.close()
    await acceptor.close()


# -- words


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("::ffff:10.0.0.7", 80, 0, 0), "10.0.0.7:80"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_addresses_read_as_people_write_them(address, text):
    assert name_of(address) == text


def test_a_turned_away_client_is_told_what_to_do():
    for text in (SPEAKS_TLS, SPEAKS_PLAIN):
        assert "use" in text
        assert text.endswith("\n")
