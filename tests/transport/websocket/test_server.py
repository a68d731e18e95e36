"""Who comes to the port, and is no link: turned away at once, with one line."""

import asyncio
import re
import ssl

import pytest
from websockets.frames import Opcode

from mlepool.errors import LinkError
from mlepool.testing.links import Recorder
from mlepool.transport.tcp import SPEAKS_TLS
from mlepool.transport.websocket import (
    MAX_FRAME,
    NOT_A_PAGE,
    Inquiry,
    Page,
    listen_websocket,
)
from mlepool.transport.websocket.client import dial_websocket
from tests.needs import need_program
from tests.tools import (
    Accepted,
    in_real_time,
    listen,
    url_of,
)
from tests.transport.strangers import (
    UPGRADE,
    from_client,
    from_server,
    request,
    stranger_at,
)

BINARY, TEXT, CONT = Opcode.BINARY, Opcode.TEXT, Opcode.CONT
MAX_TURNS = 100_000
BROKE = "the other side broke the WebSocket protocol"


async def curl(*arguments: str) -> tuple[int, str]:
    """Run curl; give its exit status and what it printed."""
    command = [need_program("curl"), "-s", "--noproxy", "*", "-m", "10", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


# -- the wrong kind of client


@in_real_time
async def test_a_tls_client_on_a_plain_port_is_told_so(caplog):
    acceptor = await listen(Accepted())
    with pytest.raises(LinkError, match="does not speak TLS") as caught:
        await dial_websocket(url_of(acceptor, secure=True), direct=True)
    assert caught.value.kind == "tls"
    assert "a TLS client on this port" in caplog.text


@in_real_time
async def test_a_plain_client_on_a_tls_port_is_told_so(caplog, identity):
    acceptor = await listen(Accepted(), identity)
    with pytest.raises(LinkError, match="This port speaks TLS only") as caught:
        await dial_websocket(url_of(acceptor), direct=True)
    assert caught.value.kind == "http"
    assert "no TLS on this port" in caplog.text


@in_real_time
async def test_an_old_tls_is_refused(caplog, identity):
    acceptor = await listen(Accepted(), identity)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", acceptor.port, ssl=context)
    await acceptor.close()
    assert "the TLS handshake failed: unsupported protocol" in caplog.text


@pytest.mark.parametrize("more", [b"", b"GET /again HTTP/1.1\r\n\r\n", b"\0" * 9000])
@in_real_time
async def test_who_wants_no_link_may_get_a_page(more):
    """Whatever comes behind the request; what fails is told, and not why."""
    asked = []

    async def page(inquiry: Inquiry) -> Page:
        asked.append(inquiry)
        await asyncio.sleep(0)
        if inquiry.path == "/bad":
            raise OSError("a secret")
        return Page(200, "well\n", (("Content-Type", "text/odd"),))

    acceptor = await listen_websocket("127.0.0.1", 0, Accepted(), answer=page)
    for path, status, body in (("/a?b", b"200 OK", b"well\n"), ("/bad", b"500", b"")):
        stranger = await stranger_at(acceptor)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer z\r\n\r\n"
        stranger.writer.write(head.encode() + more)
        answer = await stranger.reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert body in answer
        assert (b"Content-Type: text/odd" in answer) is (path == "/a?b")
        assert b"secret" not in answer
    assert [one.path for one in asked] == ["/a?b", "/bad"]
    assert {(one.authorization, one.is_private) for one in asked} == {
        ("Bearer z", False)
    }
    await acceptor.close()


@pytest.mark.parametrize(
    ("secure", "arguments", "answer"),
    [
        (False, ["http://{}/"], (426, NOT_A_PAGE)),
        (True, ["-k", "https://{}/"], (426, NOT_A_PAGE)),
        (False, ["http://{}/jobs?id=1"], (426, NOT_A_PAGE)),
        (True, ["http://{}/"], (400, SPEAKS_TLS)),
        (False, ["-I", "http://{}/"], (405, "")),
        (False, ["-X", "DELETE", "http://{}/"], (405, NOT_A_PAGE)),
        (False, ["-0", "http://{}/"], (505, NOT_A_PAGE)),
        (
            False,
            ["-H", "Origin: https://evil.example", "http://{}/"],
            (403, "Browsers"),
        ),
    ],
)
@in_real_time
async def test_curl_gets_a_plain_answer(identity, *, secure, arguments, answer):
    accepted = Accepted()
    acceptor = await listen(accepted, identity if secure else None)
    place = f"127.0.0.1:{acceptor.port}"
    filled = [argument.format(place) for argument in arguments]
    code, output = await curl("-w", "%{http_code}", *filled)
    assert code == 0
    status, text = answer
    assert output.endswith(str(status))
    assert text.strip() in output
    assert accepted.links.empty()


@in_real_time
async def test_a_post_with_a_body_harms_nobody(identity):
    accepted = Accepted()
    acceptor = await listen(accepted)
    url = f"http://127.0.0.1:{acceptor.port}/"
    await curl("--data-binary", "x" * 100_000, url)
    near = await dial_websocket(url_of(acceptor), direct=True)
    near.close()
    assert await accepted.next()


@in_real_time
async def test_curl_with_tls_on_a_plain_port_fails_at_once():
    acceptor = await listen(Accepted())
    code, _ = await curl("-k", f"https://127.0.0.1:{acceptor.port}/")
    assert code == 35  # CURLE_SSL_CONNECT_ERROR


@pytest.mark.parametrize(
    "origins", [["https://evil.example"], ["null"], [""], ["http://a", "http://b"]]
)
@in_real_time
async def test_a_browsers_origin_is_refused(caplog, origins):
    accepted = Accepted()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    head = await stranger.upgrades(*[("Origin", origin) for origin in origins])
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b"Browsers may not open links" in await stranger.hears()
    assert accepted.links.empty()
    assert "a browser's Origin" in caplog.text


# -- strangers who send nonsense


GARBAGE = [
    b"\x00\x01\x02\x03\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    request(*[(f"X-{number}", "x") for number in range(500)]),
    request(("X", "x" * 20_000)),
    request(*UPGRADE.items(), ("Sec-WebSocket-Version", "13")),
    request(("Upgrade", "websocket"), ("Connection", "Upgrade")),
    request(("Content-Length", "5")) + b"hello",
    request() + request(),
    request() + from_client(BINARY, b"too early"),
    request(*UPGRADE.items(), ("Origin", "x")) + b"\xff" * 100,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
@in_real_time
async def test_garbage_is_refused_at_once_with_one_line(caplog, garbage):
    accepted = Accepted()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.says(garbage)
    heard = await stranger.hears()
    assert heard == b"" or re.match(rb"HTTP/1\.1 4\d\d ", heard)
    assert accepted.links.empty()
    assert caplog.text.count("refused 127.0.0.1:") == 1


@in_real_time
async def test_garbage_instead_of_tls_is_refused(caplog, identity):
    acceptor = await listen(Accepted(), identity)
    stranger = await stranger_at(acceptor)
    await stranger.says(b"\x16" + b"\xff" * 100)  # begins as TLS does
    await stranger.hears()
    stranger.leaves()
    await acceptor.close()
    assert "does not speak TLS" in caplog.text or "TLS handshake failed" in caplog.text


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\xff\xff\xff\xff"],
        [from_server(BINARY, b"not masked")],
        [from_client(TEXT, b"text")],
        [from_client(TEXT, b"te", fin=False)],
        [from_client(CONT, b"continues nothing")],
        [from_client(BINARY, b"begun", fin=False), from_client(BINARY, b"again")],
        [b"\x82\xff" + b"\xff" * 12],  # 2**64 - 1 bytes are announced
        [b"\x82\xff" + (MAX_FRAME + 1).to_bytes(8, "big") + bytes(4)],
    ],
    ids=range(8),
)
@in_real_time
async def test_garbage_after_the_handshake_ends_that_link_with_its_cause(pieces):
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    (await accepted.next()).attach(far)
    await stranger.says(from_client(BINARY, b"good") + b"".join(pieces))
    await stranger.says(from_client(BINARY, b"after that"))
    assert (await far.lost()).startswith(BROKE)
    assert far.frames == [b"good"]
    assert (await stranger.hears())[:1] == b"\x88"  # a Close frame
    assert len(far.losses) == 1


@in_real_time
async def test_nothing_after_a_text_frame_is_taken_even_from_the_same_packet():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.upgrades()
    (await accepted.next()).attach(far)
    await stranger.says(
        from_client(TEXT, b"te", fin=False)
        + from_client(CONT, b"xt")
        + from_client(BINARY, b"after that")
    )
    cause = await far.lost()
    assert cause == f"{BROKE}: text frames are not part of this protocol"
    assert far.frames == []
    assert await stranger.hears() == from_server(
        Opcode.CLOSE, (1003).to_bytes(2, "big") + cause.partition(": ")[2].encode()
    )


@in_real_time
async def test_garbage_in_the_packet_of_the_request_ends_the_link():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.says(request(*UPGRADE.items()) + b"\xff" * 100)
    link = await accepted.next()
    link.attach(far)
    link.send(b"hello?")
    assert (await far.lost()).startswith(BROKE)


@in_real_time
async def test_a_frame_in_the_packet_of_the_request_is_kept():
    accepted, far = Accepted(), Recorder()
    acceptor = await listen(accepted)
    stranger = await stranger_at(acceptor)
    await stranger.says(request(*UPGRADE.items()) + from_client(BINARY, b"hello"))
    (await accepted.next()).attach(far)
    await far.until(lambda: far.frames == [b"hello"])
    stranger.leaves()
    await far.lost()
