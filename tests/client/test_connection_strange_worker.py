"""What no honest worker says, sent to real clients: that connection closed, no harm."""

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import mlepool
from mlepool.wire.codec import encode
from mlepool.wire.messages import (
    Accepted,
    Bye,
    CommandSpec,
    Ended,
    Event,
    Failure,
    Hello,
    Outcome,
    Parameter,
    Ping,
    Pong,
    Request,
    Welcome,
)
from mlepool.wire.records import STDOUT, pack_header
from tests.conftest import wait_until
from tests.raw import (
    ClientLink,
    FakeWorker,
)

pytestmark = pytest.mark.real

RUN = CommandSpec(
    "run", parameters=(Parameter("command", "KEYWORD_ONLY"),), spawns=True
)
TOKEN = "t" * 43


NONCE = b"n" * 32


@pytest.fixture
def pool() -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        yield pool


GREETING = Hello(1, 1, "fake", "k" * 43, NONCE)


def after(*messages: Any) -> Callable[[ClientLink], None]:
    """Send messages at once, then listen."""

    def answer(client: ClientLink) -> None:
        client.send(*messages)
        client.listen()

    return answer


def raw(*frames: bytes | str) -> Callable[[ClientLink], None]:
    """Send frames at once, then listen."""

    def answer(client: ClientLink) -> None:
        for one in frames:
            client.send_raw(one)
        client.listen()

    return answer


STRANGE_GREETINGS: dict[str, tuple[Callable[[ClientLink], None], type[Exception]]] = {
    "nothing and an end": (lambda _: None, mlepool.ConnectError),
    "a text": (raw("hello"), mlepool.ConnectError),
    "garbage": (raw(b"\xc1garbage"), mlepool.ConnectError),
    "an empty frame": (raw(b""), mlepool.ConnectError),
    "deep nesting": (raw(b"\x91" * 100_000), mlepool.ConnectError),
    "a frame over the limit": (raw(bytes(2**20 + 1)), mlepool.ConnectError),
    "welcome at first": (after(Welcome(b"")), mlepool.ConnectError),
    "a request": (after(Request(1, "x", "run")), mlepool.ConnectError),
    "two hellos": (after(GREETING, GREETING), mlepool.ConnectError),
    "data before the welcome": (
        raw(encode(GREETING), b"\1" * 20),
        mlepool.ConnectError,
    ),
    "no nonce": (after(Hello(1, 1, "fake", "k" * 43)), mlepool.ConnectError),
    "no key": (after(Hello(1, 1, "fake", "", NONCE)), mlepool.ConnectError),
    "a key too long": (
        after(Hello(1, 1, "fake", "k" * 70_000, NONCE)),
        mlepool.ConnectError,
    ),
    "a later version": (
        after(Hello(8, 9, "fake", "k" * 43, NONCE)),
        mlepool.VersionError,
    ),
    "a refusal": (
        after(GREETING, Bye("refused", "not today")),
        mlepool.AuthenticationError,
    ),
    "a farewell": (after(Bye("ending", "I leave")), mlepool.ConnectError),
    "a false welcome": (
        after(GREETING, Welcome(b"m" * 32)),
        mlepool.UntrustedWorkerError,
    ),
}


@pytest.mark.parametrize("name", STRANGE_GREETINGS)
def test_a_strange_greeting_is_a_connect_error(worker, conn, pool, *, name):
    answer, kind = STRANGE_GREETINGS[name]
    with FakeWorker(answer) as fake:
        connection = pool.add(fake.url, token=TOKEN)
        with pytest.raises(mlepool.ConnectError) as caught:
            connection.connect(timeout=20)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"cannot connect to 127.0.0.1:{fake.port}: ")
    assert "\n" not in str(caught.value)
    assert conn.run("echo well").stdout == "well\n"


def test_a_worker_that_says_nothing_is_given_up_in_time(pool):
    with FakeWorker(lambda client: client.listen()) as fake:
        connection = pool.add(fake.url, token=TOKEN)
        began = time.monotonic()
        with pytest.raises(mlepool.ConnectTimeoutError, match=r"within 0\.3 s"):
            connection.connect(timeout=0.3)
        assert time.monotonic() - began < 5


STRANGE_COMMANDS = [
    CommandSpec("two words", spawns=True),
    CommandSpec("close"),
    CommandSpec("__init__"),
    CommandSpec("bad", parameters=(Parameter("two words", "KEYWORD_ONLY"),)),
    CommandSpec("bad", parameters=(Parameter("a", "KEYWORD_ONLY"),) * 2),
    CommandSpec("bad", parameters=(Parameter("class", "KEYWORD_ONLY"),)),
    CommandSpec("bad", parameters=(Parameter("a", "NO_KIND", "1 +", "import os"),)),
    CommandSpec("bad", parameters=(Parameter("a", "VAR_POSITIONAL"),) * 2),
    CommandSpec(
        "bad",
        parameters=(
            Parameter("a", "POSITIONAL_OR_KEYWORD", default="1"),
            Parameter("b", "POSITIONAL_OR_KEYWORD"),
        ),
    ),
    CommandSpec("bad", parameters=(Parameter("complete", "POSITIONAL_ONLY"),)),
]


@pytest.mark.parametrize("spec", STRANGE_COMMANDS, ids=range(len(STRANGE_COMMANDS)))
def test_a_strange_catalogue_is_no_more_than_a_connect_error(pool, spec):
    def answer(client: ClientLink) -> None:
        client.let_in((RUN, spec), token=TOKEN)
        client.listen()

    with FakeWorker(answer) as fake:
        connection = pool.add(fake.url, token=TOKEN)
        try:
            connection.connect(timeout=20)
        except mlepool.ConnectError:
            return
        assert "run" in connection.server_methods()
        assert str(connection.commands)
        assert dir(connection)
        connection.close()
        assert connection.state["connection"] == "closed"


def data(position: int, payload: bytes, call: int = 1) -> bytes:
    return struct.pack(">BIQ", 1, call, position) + payload


def record(offset: int, text: bytes, *, stream: int = STDOUT) -> bytes:
    return pack_header(stream, len(text), offset, time=1.0) + text


DONE = Outcome("SUCCEEDED", exit_code=0)
STRANGE_ANSWERS: dict[str, list[bytes]] = {
    "garbage": [b"\xc1"],
    "a welcome": [encode(Welcome(b""))],
    "a request": [encode(Request(1, "x", "run"))],
    "accepted for no call": [encode(Accepted(7))],
    "ended for no call": [encode(Ended(7, DONE))],
    "data for no call": [data(0, record(0, b"hi\n"), call=7)],
    "data that skips": [data(5, record(0, b"hi\n"))],
    "data twice": [data(0, record(0, b"hi\n"))] * 2,
    "an end before the output": [
        encode(Ended(1, msgspec.structs.replace(DONE, end=99)))
    ],
    "no status": [encode(Ended(1, Outcome("WONDERFUL")))],
    "a catalogue that is none": [encode(Event("catalogue", b"\xc1"))],
    "a catalogue of odd commands": [encode(Event("catalogue", [[1, 2]]))],
    "a late refusal": [encode(Bye("refused", "not you"))],
}


@pytest.mark.parametrize("name", STRANGE_ANSWERS)
def test_a_strange_answer_loses_that_connection_only(conn, pool, name):
    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        request = client.receive()
        assert isinstance(request, Request)
        client.send(Accepted(1))
        for frame in STRANGE_ANSWERS[name]:
            client.send_raw(frame)
        client.listen()

    job = conn.run("read x; echo two", stdin=True, complete=False)
    with FakeWorker(answer) as fake, pool.add(fake.url, token=TOKEN) as connection:
        listener = connection.run(command="hi", complete=False)
        with pytest.raises(mlepool.ConnectionLostError):
            listener.wait(20)
        assert (listener.status, listener.ok) == ("LOST", False)
        assert connection.state["connection"] == "lost"
        assert not connection.heartbeat()
    job.send_input("go\n")
    assert job.wait(20).stdout == "two\n"


def test_more_output_than_there_is_credit_for_loses_the_connection(pool):
    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        client.receive()
        whole = record(0, bytes(65536))
        for number in range(10_000):
            piece = record(number * 65536, bytes(65536))
            client.send_raw(data(number * len(whole), piece))

    with FakeWorker(answer) as fake, pool.add(fake.url, token=TOKEN) as connection:
        listener = connection.run(command="hi", complete=False)
        wait_until(lambda: listener.status == "LOST")
        with pytest.raises(mlepool.ConnectionLostError, match="credit"):
            listener.wait(20)


HARMLESS: dict[str, list[bytes]] = {
    "pongs nobody asked for": [encode(Pong(1)), encode(Pong(2**60))],
    "events nobody waits for": [encode(Event("x", {"a": [1, None, b"x"]}))],
    "accepted twice": [encode(Accepted(1)), encode(Accepted(1))],
    "ended twice": [encode(Ended(1, DONE))],
    "pings": [encode(Ping(2**63))],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_only_odd_harms_nothing(pool, name):
    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        while True:
            request = client.receive()
            if isinstance(request, Request):
                for frame in HARMLESS[name]:
                    if request.call == 1:
                        client.send_raw(frame)
                client.send(Ended(request.call, DONE))

    with FakeWorker(answer) as fake, pool.add(fake.url, token=TOKEN) as connection:
        assert connection.run(command="hi").ok
        assert connection.run(command="hi").ok


@pytest.mark.parametrize(
    "type_name",
    ["SystemExit", "KeyboardInterrupt", "StopIteration", "UnicodeDecodeError", "eval"]
    + ["BaseException", "ExceptionGroup", "GeneratorExit", "", "os.system", "Warning"],
)
def test_no_worker_makes_a_client_raise_what_would_steer_it(pool, type_name):
    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        client.receive()
        failure = Failure(type_name, "boo", "trace", 5, "/x")
        client.send(Ended(1, Outcome("FAILED", failure=failure)))
        client.listen()

    with (
        FakeWorker(answer) as fake,
        pool.add(fake.url, token=TOKEN) as connection,
        pytest.raises(mlepool.RemoteError) as caught,
    ):
        connection.run(command="hi", raise_error=True)
    assert type(caught.value) is mlepool.RemoteError
    assert caught.value.type_name == type_name
