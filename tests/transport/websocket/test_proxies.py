"""Links through real proxies: tinyproxy (HTTP CONNECT) and microsocks (SOCKS5)."""

import contextlib
import functools
import os
import socket
import subprocess
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mlepool.errors import LinkError
from mlepool.testing.contracts import (
    LinkPair,
    a_close_comes_after_what_was_sent,
    a_link_is_full_while_the_reader_stalls,
    frames_arrive_whole_and_in_order_both_ways,
    two_floods_at_once_do_not_block,
)
from mlepool.transport.websocket.client import dial_websocket
from mlepool.worker.access.identity import Identity
from tests.needs import need_program
from tests.tools import (
    Accepted,
    in_real_time,
    listen,
    real_pair,
    transport_of,
    url_of,
)
from tests.transport.strangers import just_say, strange_server

START_LIMIT = 10.0  # seconds

each_way = pytest.mark.parametrize("way", ["http", "socks5", "socks5h", "password"])
both_securities = pytest.mark.parametrize("secure", [False, True])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a proxy, from when it listens on its port."""
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_LIMIT
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        time.sleep(0.005)  # it says nothing when it begins to listen
        return False
    return True


@pytest.fixture(scope="module")
def proxies(tmp_path_factory) -> Iterator[dict[str, str]]:
    """One proxy of each kind: its URL by kind."""
    folder = tmp_path_factory.mktemp("proxies")
    http, socks, guarded = free_port(), free_port(), free_port()
    config = folder / "tinyproxy.conf"
    config.write_text(f"Port {http}\nListen 127.0.0.1\nTimeout 30\nMaxClients 20\n")
    tinyproxy = [need_program("tinyproxy"), "-d", "-c", str(config)]
    microsocks = [need_program("microsocks"), "-i", "127.0.0.1", "-p"]
    password = ["-u", "me", "-P", "secret"]
    with (
        running(tinyproxy, http, folder / "http.log"),
        running([*microsocks, str(socks)], socks, folder / "socks.log"),
        running(
            [*microsocks, str(guarded), *password], guarded, folder / "guarded.log"
        ),
    ):
        yield {
            "http": f"http://127.0.0.1:{http}",
            "socks5": f"socks5://127.0.0.1:{socks}",
            "socks5h": f"socks5h://127.0.0.1:{socks}",
            "password": f"socks5://me:secret@127.0.0.1:{guarded}",
            "wrong password": f"socks5://me:wr0ng@127.0.0.1:{guarded}",
        }


@pytest.fixture(autouse=True)
def no_system_proxies(monkeypatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@contextlib.asynccontextmanager
async def proxied_links(
    proxy: str | None, identity: Identity | None
) -> AsyncIterator[LinkPair]:
    accepted = Accepted()
    acceptor = await listen(accepted, identity)
    url = url_of(acceptor, secure=identity is not None)
    near = await dial_websocket(url, proxy=proxy)
    yield real_pair(near, await accepted.next())


def came_straight(pair: LinkPair) -> bool:
    """Tell if the accepted end sees the very socket that dialled."""
    own = transport_of(pair.dialled).get_extra_info("sockname")
    return pair.accepted.info.address == f"127.0.0.1:{own[1]}"


@pytest.mark.parametrize(
    "contract",
    [
        frames_arrive_whole_and_in_order_both_ways,
        two_floods_at_once_do_not_block,
        a_link_is_full_while_the_reader_stalls,
        a_close_comes_after_what_was_sent,
    ],
    ids=lambda contract: contract.__name__,
)
@both_securities
@each_way
@in_real_time
async def test_a_link_through_a_proxy_keeps_the_contract(
    proxies, identity, *, way, secure, contract
):
    identity = identity if secure else None
    await contract(functools.partial(proxied_links, proxies[way], identity))


@both_securities
@each_way
@in_real_time
async def test_the_link_does_go_through_the_proxy(proxies, identity, *, way, secure):
    async with proxied_links(proxies[way], identity if secure else None) as pair:
        assert not came_straight(pair)
        peer = transport_of(pair.dialled).get_extra_info("peername")
        assert proxies[way].endswith(f":{peer[1]}")
        if secure:
            assert pair.dialled.info.channel == identity.channel
        pair.dialled.close()


@in_real_time
async def test_a_name_is_resolved_by_the_proxy_if_its_scheme_says_so(proxies):
    accepted = Accepted()
    acceptor = await listen(accepted)
    url = f"ws://localhost:{acceptor.port}"
    near = await dial_websocket(url, proxy=proxies["socks5h"])
    assert await accepted.next()
    near.close()


@pytest.mark.parametrize("name", ["ws_proxy", "WS_PROXY", "Socks_Proxy"])
@in_real_time
async def test_a_proxy_of_the_system_is_found_however_it_is_written(
    proxies, monkeypatch, name
):
    monkeypatch.setenv(name, proxies["http" if name != "Socks_Proxy" else "socks5"])
    async with proxied_links(None, None) as pair:
        assert not came_straight(pair)
        pair.dialled.close()


@in_real_time
async def test_the_systems_proxy_is_used_unless_told_not_to(proxies, monkeypatch):
    monkeypatch.setenv("ws_proxy", proxies["http"])
    async with proxied_links(None, None) as pair:
        assert not came_straight(pair)
        pair.dialled.close()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with proxied_links(None, None) as pair:
        assert came_straight(pair)
        pair.dialled.close()
    monkeypatch.setenv("ws_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy")
    acceptor = await listen(Accepted())
    link = await dial_websocket(url_of(acceptor), direct=True)
    link.close()


# -- what goes wrong


@pytest.mark.parametrize(
    ("way", "cause"),
    [
        ("http", "the proxy failed: .*HTTP 500"),
        ("socks5", "the proxy failed: Connection refused by destination host"),
        ("wrong password", "the proxy failed: Username and password .* failure"),
    ],
)
@in_real_time
async def test_what_the_proxy_says_is_passed_on(proxies, way, cause):
    with pytest.raises(LinkError, match=cause) as caught:
        await dial_websocket(f"ws://127.0.0.1:{free_port()}", proxy=proxies[way])
    assert caught.value.kind == "http"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@in_real_time
async def test_a_dead_proxy_is_not_taken_for_a_dead_worker(monkeypatch, scheme):
    proxy = f"{scheme}://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ws_proxy", proxy)
    for given in (proxy, None):
        with pytest.raises(LinkError) as caught:
            await dial_websocket("ws://127.0.0.1:1", proxy=given)
        assert str(caught.value) == "connection refused (by way of a proxy)"
        assert caught.value.kind == "refused"


@in_real_time
async def test_a_proxy_that_is_bypassed_is_not_blamed(monkeypatch):
    monkeypatch.setenv("ws_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(LinkError, match="no worker listens there"):
        await dial_websocket(f"ws://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@in_real_time
async def test_a_proxy_that_is_none_is_an_error(scheme):
    async with strange_server(just_say(b"SSH-2.0-OpenSSH_9.9\r\n")) as url:
        proxy = url.replace("ws:", f"{scheme}:")
        with pytest.raises(LinkError, match="the proxy failed"):
            await dial_websocket("ws://127.0.0.1:1", proxy=proxy)


@pytest.mark.parametrize(
    "proxy",
    [
        "ftp://me:secret@127.0.0.1:1",
        "http://me:secret@127.0.0.1:1/path",
        "http://me:secret@127.0.0.1:99999",
        "http://me:secret@127.0.0.1:port",
        "http://secret@127.0.0.1:1",
        "http://me:sec/ret@127.0.0.1:1",
        "secret",
        "http://me:secret@",
    ],
)
@in_real_time
async def test_a_proxys_url_that_is_wrong_is_never_shown(proxy):
    with pytest.raises(LinkError) as caught:
        await dial_websocket("ws://127.0.0.1:1", proxy=proxy)
    assert "proxy" in str(caught.value)
    assert "sec" not in "".join(traceback.format_exception(caught.value))


@in_real_time
async def test_a_proxys_password_is_never_shown(proxies):
    with pytest.raises(LinkError) as caught:
        await dial_websocket("ws://127.0.0.1:1", proxy=proxies["wrong password"])
    assert "wr0ng" not in "".join(traceback.format_exception(caught.value))
