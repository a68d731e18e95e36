"""What no honest side says, sent to real workers and clients; and what users mistype.

The same holds everywhere: a documented error, that connection closed, else no harm.
"""

import itertools
import os
import random
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

import mlepool
from mlepool.wire.codec import encode
from mlepool.wire.messages import (
    Accepted,
    Attach,
    Bye,
    CommandSpec,
    Credit,
    Ended,
    Event,
    Failure,
    Hello,
    Leave,
    Outcome,
    Parameter,
    Ping,
    Pong,
    Proof,
    Request,
    Welcome,
)
from mlepool.wire.records import STDOUT, pack_header
from tests.conftest import RunningWorker, wait_until
from tests.raw import (
    ClientLink,
    FakeWorker,
    RawClient,
    TcpWay,
    UnixWay,
    any_certificate,
    raw_client,
)
from tests.tools import steady

pytestmark = pytest.mark.real

RUN = CommandSpec(
    "run", parameters=(Parameter("command", "KEYWORD_ONLY"),), spawns=True
)
TOKEN = "t" * 43


@pytest.fixture
def going(worker) -> Iterator[None]:
    """A job on another connection: it must go on, and end right."""
    begin = len(worker.log)
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        job = conn.run("echo one; read x; echo two; exit 3", stdin=True, complete=False)
        assert job.next() == "one"
        yield
        job.send_input("go\n")
        assert job.wait(20).stdout == "one\ntwo\n"
        assert job.exit_code == 3
        assert conn.run("echo well").stdout == "well\n"
    assert "Traceback" not in worker.log[begin:]
    assert "lost the supervisor" not in worker.log[begin:]


needs_going = pytest.mark.usefixtures("going")


# -- a strange client, at a real worker: before it has proven who it is

NONCE = b"n" * 32
EARLY: dict[str, list[Any]] = {
    "a request": [Request(1, "job", "jobs")],
    "a proof before a hello": [Proof()],
    "two hellos": [Hello(1, 1, nonce=NONCE), Hello(1, 1, nonce=NONCE)],
    "a ping": [Ping()],
    "a welcome": [Welcome(b"")],
    "a request after a hello": [Hello(1, 1, nonce=NONCE), Request(1, "job", "jobs")],
    "a hello without a nonce": [Hello(1, 1)],
    "a hello with a long nonce": [Hello(1, 1, nonce=bytes(33))],
    "a hello with a wrong range": [Hello(2, 1, nonce=NONCE)],
}


@pytest.mark.parametrize("name", EARLY)
@needs_going
def test_a_stranger_out_of_order_is_told_and_closed(worker, name):
    for way in (TcpWay(worker.port), UnixWay(worker.state_dir)):
        client = RawClient(way)
        client.send(*EARLY[name])
        *_, last = client.rest()
        assert isinstance(last, Bye)
        assert (last.code, last.reason != "") == ("protocol", True)
        way.close()


@needs_going
def test_a_stranger_of_another_version_is_told_both_ranges(worker):
    client = RawClient(TcpWay(worker.port))
    client.send(Hello(7, 9, "robot 9", nonce=NONCE))
    *_, last = client.rest()
    assert isinstance(last, Bye)
    assert last.code == "version"
    assert "the client (robot 9) speaks 7 to 9" in last.reason
    assert "the worker (mlepool" in last.reason
    client.way.close()


BAD_FRAMES = {
    "nothing": b"",
    "a wrong first byte": b"\xc1",
    "a map": b"\x80",
    "an unknown tag": b"\x91\x63",
    "no tag": b"\x90",
    "a text that is no UTF-8": b"\x92\x04\xa1\xff",
    "a number too large": msgspec.msgpack.encode([1, 2**64 - 1, -(2**63), "", "", b""]),
    "a cut message": encode(Hello(1, 1, "x" * 50, nonce=NONCE))[:30],
    "deep nesting": b"\x91" * 500_000,
    "deep nesting in a value": b"\x95\x07\x01\xa1a\xa1b" + b"\x81\xa1x" * 100_000,
    "a cut data frame": b"\x01\x02",
    "a data frame": b"\x01" + bytes(12) + b"data",
    "random bytes": random.Random(7).randbytes(5000),
    "one byte too many": b"\x01" + bytes(2**20),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
@needs_going
def test_a_bad_frame_closes_its_link_and_nothing_else(worker, name):
    for token in (worker.token(), None):
        with raw_client(worker, token=token) as client:
            client.way.send(BAD_FRAMES[name])
            assert not any(isinstance(one, Ended) for one in client.rest())


@needs_going
def test_bytes_that_are_cut_anywhere_harm_nobody(worker):
    whole = b"".join(
        struct.pack(">I", len(one)) + one
        for one in (encode(Hello(1, 1, nonce=NONCE)), encode(Proof()))
    )
    for length in range(len(whole)):
        way = UnixWay(worker.state_dir)
        way.send_raw(whole[:length])
        way.close()


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", struct.pack(">I", 2**20 + 1)])
@needs_going
def test_a_huge_length_closes_the_link_before_the_bytes_come(worker, data):
    way = UnixWay(worker.state_dir)
    way.send_raw(data)
    RawClient(way).rest()
    way.close()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # a length of 2**63 - 1
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # over 2**63
        b"\x82\xfe\xff\xff\0\0\0\0xyz",  # cut
        b"\x82\x05hello",  # not masked
        b"\x81\x85\0\0\0\0hello",  # text
        b"\xf2\x80\0\0\0\0",  # reserved bits
        b"\x80\x80\0\0\0\0",  # a continuation of nothing
        b"\x89\xfe\xff\xff" + bytes(2**16 + 3),  # a long ping
        b"\x88\x82\0\0\0\0\0\0",  # a close with a reserved code
        b"\xff" * 5000,
    ],
)
@needs_going
def test_bad_websocket_frames_through_tls_close_their_link(worker, data):
    with (
        socket.create_connection(("127.0.0.1", worker.port), 20) as bare,
        any_certificate().wrap_socket(bare) as stranger,
    ):
        stranger.sendall(UPGRADE)
        assert stranger.recv(4096).startswith(b"HTTP/1.1 101")
        stranger.sendall(data)
        if data.endswith(b"xyz"):
            return  # and hang up in the middle of a frame
        try:
            while stranger.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass


# -- a strange client that is let in


def job_id() -> str:
    return secrets.token_hex(8)


IMPOSSIBLE: dict[str, Callable[[], list[Any]]] = {
    "hello again": lambda: [Hello(1, 1, nonce=NONCE)],
    "proof again": lambda: [Proof()],
    "welcome": lambda: [Welcome(b"")],
    "accepted": lambda: [Accepted(1)],
    "ended": lambda: [Ended(1, Outcome("SUCCEEDED"))],
    "event": lambda: [Event("x")],
    "credit for no call": lambda: [Credit(1, 10)],
    "leaving no call": lambda: [Leave(7)],
    "a call's number twice": lambda: [
        Request(5, job_id(), "jobs"),
        Request(5, job_id(), "jobs"),
    ],
    "a call's number going back": lambda: [Attach(5, "x"), Attach(4, "x")],
    "call 0": lambda: [Request(0, job_id(), "run", {"command": "true"})],
    "call -1": lambda: [Request(-1, job_id(), "run", {"command": "true"})],
    "call 2**32": lambda: [Request(2**32, job_id(), "run", {"command": "echo hi"})],
    "attach at -1": lambda: [Attach(1, "x", -1)],
    "a window of -1": lambda: [Request(1, job_id(), "jobs", {}, -1)],
    "credit at -1": lambda: [Request(1, job_id(), "jobs"), Credit(1, -1)],
    "a timeout of NaN": lambda: [
        Request(1, job_id(), "run", {"command": "true"}, 0, float("nan"))
    ],
    "a timeout of -1": lambda: [
        Request(1, job_id(), "run", {"command": "true"}, 0, -1.0)
    ],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@needs_going
def test_an_impossible_message_closes_its_link_with_a_reason(worker, name):
    for token in (worker.token(), None):
        with raw_client(worker, token=token) as client:
            client.send(*IMPOSSIBLE[name]())
            *_, last = client.rest()
            assert isinstance(last, Bye)
            assert (last.code, last.reason != "") == ("protocol", True)


BAD_REQUESTS: dict[str, tuple[list[Any], str]] = {
    "no such command": ([Request(1, "j", "nope")], "LookupError"),
    "no job's id": ([Request(1, "../j", "run", {"command": "true"})], "LookupError"),
    "an empty id": ([Request(1, "", "run", {"command": "true"})], "LookupError"),
    "a long id": ([Request(1, "x" * 65, "run", {"command": "x"})], "LookupError"),
    "an id with a NUL": ([Request(1, "a\0b", "run", {"command": "x"})], "LookupError"),
    "no arguments": ([Request(1, "j", "run")], "TypeError"),
    "an argument too many": (
        [Request(1, "j", "run", {"command": "x", "shell": True})],
        "TypeError",
    ),
    "a number for a command": ([Request(1, "j", "run", {"command": 7})], "TypeError"),
    "an attach to nothing": ([Attach(1, "nobody")], "LookupError"),
    "an attach to a path": ([Attach(1, "../token")], "LookupError"),
    "a stop of nothing": ([Request(1, "j", "stop", {"job_id": "x"})], "LookupError"),
    "a stop with no signal": (
        [Request(1, "j", "stop", {"job_id": "x", "signal": "SIGNOPE"})],
        "ValueError",
    ),
    "a stop with a grace of NaN": (
        [Request(1, "j", "stop", {"job_id": "x", "grace": float("nan")})],
        "ValueError",
    ),
    "input for nothing": (
        [Request(1, "j", "send_input", {"job_id": "x", "data": b"x"})],
        "LookupError",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
@needs_going
def test_a_bad_request_fails_and_the_link_goes_on(worker, name):
    messages, kind = BAD_REQUESTS[name]
    with raw_client(worker) as client:
        client.send(*messages)
        outcome = client.wait_for(Ended).outcome
        assert outcome.status == "FAILED"
        assert outcome.failure is not None
        assert outcome.failure.type_name == kind
        client.send(Ping(7))
        assert client.wait_for(Pong).number == 7


@needs_going
def test_a_job_may_be_asked_for_with_odd_but_possible_numbers(worker):
    requests = [
        Request(1, job_id(), "run", {"command": "echo hi"}, 2**63, 1e300),
        Request(2**32 - 1, job_id(), "run", {"command": "echo hi"}, 0, 0.0),
    ]
    for request in requests:
        with raw_client(worker) as client:
            client.send(request, Credit(request.call, 2**64 - 1))
            ended = client.wait_for(Ended)
            assert ended.call == request.call
            assert ended.outcome.status in ("SUCCEEDED", "TIMED_OUT")


@needs_going
def test_input_after_a_gap_is_refused_at_once(worker):
    with raw_client(worker) as client:
        job = job_id()
        client.send(Request(1, job, "run", {"command": "cat", "stdin": True}, 99))
        gap = {"job_id": job, "data": b"x", "offset": 5}
        client.send(Request(2, job_id(), "send_input", gap))
        failure = client.wait_for(Ended).outcome.failure
        assert failure is not None
        assert failure.message == "stdin is at 0, not at 5"
        end = {"job_id": job, "data": b"", "offset": 0, "end": True}
        client.send(Request(3, job_id(), "send_input", end))
        assert {client.wait_for(Ended).call for _ in range(2)} == {1, 3}


def odd_messages() -> st.SearchStrategy[Any]:
    """Give messages that can be sent, with values that a client would not choose."""
    calls = st.integers(-1, 9) | st.integers(2**32 - 2, 2**33)
    numbers = st.integers(-2, 9) | st.integers(-(2**63), 2**64 - 1)
    texts = st.text(max_size=5)
    values = st.recursive(
        st.none()
        | st.booleans()
        | numbers
        | st.floats()
        | texts
        | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
        max_leaves=5,
    )
    names = st.sampled_from(["run", "stop", "jobs", "send_input", "get_time", "nope"])
    keys = st.sampled_from(
        ["command", "cwd", "env", "stdin", "job_id", "signal", "grace", "offset", "end"]
    )
    return st.one_of(
        st.builds(
            Request,
            calls,
            texts | st.just("job"),
            names,
            st.dictionaries(keys | texts, values, max_size=4),
            numbers,
            st.none() | st.floats(),
        ),
        st.builds(Attach, calls, texts | st.just("job"), numbers, numbers),
        st.builds(Credit, calls, numbers),
        st.builds(Leave, calls),
        st.builds(Ping, numbers),
        st.builds(Event, texts, values),
        st.builds(Bye, texts, texts),
    )


@needs_going
def test_random_messages_of_a_client_that_was_let_in_harm_nobody(worker):
    @steady
    @given(st.lists(odd_messages(), max_size=6))
    def send(messages: list[Any]) -> None:
        with raw_client(worker) as client:
            client.send(*messages)

    send()


@needs_going
def test_random_frames_of_a_client_that_was_let_in_harm_nobody(worker):
    @steady
    @given(st.lists(st.binary(max_size=40) | mutated(), min_size=1, max_size=3))
    def send(frames: list[bytes]) -> None:
        with raw_client(worker) as client:
            for frame in frames:
                client.way.send(frame)

    send()


def mutated() -> st.SearchStrategy[bytes]:
    """Give frames of right messages with a byte changed."""

    def change(message: Any, at: int, byte: int) -> bytes:
        frame = bytearray(encode(message))
        frame[at % len(frame)] = byte
        return bytes(frame)

    messages = st.sampled_from(
        [
            Request(1, "mutated", "run", {"command": "true", "env": {"A": "b"}}, 99),
            Attach(1, "mutated", 0, 99),
            Credit(1, 99),
        ]
    )
    return st.builds(change, messages, st.integers(0, 99), st.integers(0, 255))


# -- a strange worker, at a real client


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
    "no record": [data(0, b"x" * 100)],
    "a record of no stream": [data(0, record(0, b"x", stream=3))],
    "a record too long": [data(0, pack_header(1, 2**31, 0, time=1.0))],
    "a record that goes back": [data(0, record(9, b"hi\n") + record(0, b"hi\n"))],
    "an end in a record": [
        data(0, record(0, b"hi\n")[:-1]),
        encode(Ended(1, msgspec.structs.replace(DONE, end=26))),
    ],
    "an end before the output": [
        encode(Ended(1, msgspec.structs.replace(DONE, end=99)))
    ],
    "a wrong digest": [
        data(0, record(0, b"hi\n")),
        encode(Ended(1, msgspec.structs.replace(DONE, end=27, stdout=3, digest="x"))),
    ],
    "no status": [encode(Ended(1, Outcome("WONDERFUL")))],
    "a farewell": [encode(Bye("ending", "I leave"))],
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


# -- what users mistype


@pytest.mark.parametrize(
    ("command", "keywords", "kind"),
    [
        (["ls", "a\0b"], {}, ValueError),
        ("echo a\0b", {}, ValueError),
        (["no-such-program"], {}, FileNotFoundError),
        (["/no/such/program"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["/"], {}, PermissionError),
        ([""], {}, (FileNotFoundError, PermissionError)),
        (["ls"], {"cwd": "/no/such/folder"}, FileNotFoundError),
        (["ls"], {"cwd": "/etc/passwd"}, NotADirectoryError),
        (["ls"], {"cwd": "a\0b"}, ValueError),
        (["ls"], {"env": {"A": "a\0b"}}, ValueError),
        (["ls"], {"env": {"A=B": "c"}}, ValueError),
        (["ls", "x" * 200_000], {}, OSError),
        ("", {}, ValueError),
        ([], {}, ValueError),
        (["ls", 7], {}, TypeError),
        (["ls", None], {}, TypeError),
        (["ls", ["-l"]], {}, TypeError),
        (7, {}, TypeError),
        (None, {}, TypeError),
        (["ls"], {"env": {"A": 7}}, TypeError),
        (["ls"], {"env": {"A": None}}, TypeError),
        (["ls"], {"env": {7: "A"}}, TypeError),
        (["ls"], {"env": "A=B"}, TypeError),
        (["ls"], {"cwd": 7}, TypeError),
        (["ls"], {"stdin": "yes"}, TypeError),
    ],
)
def test_a_wrong_run_is_of_the_matching_type_and_failed(
    conn, command, keywords, *, kind
):
    with pytest.raises(kind):
        conn.run(command, raise_error=True, **keywords)
    try:
        listener = conn.run(command, **keywords)
    except (TypeError, ValueError):
        return  # known here already: nothing was sent
    assert (listener.status, listener.ok, listener.exit_code) == ("FAILED", False, None)
    assert isinstance(listener.error, kind)
    assert isinstance(listener.error, mlepool.RemoteError)
    assert str(listener.error)


def test_a_command_too_long_for_a_message_is_said_here(conn):
    with pytest.raises(mlepool.LocalProtocolError, match="over the limit of 1048576"):
        conn.run(["ls", *["x" * 1000] * 1100])
    assert conn.run(["true", *["x" * 1000] * 900]).ok


def test_os_errors_have_their_number_and_file(conn):
    error = conn.run(["ls"], cwd="/no/such/folder").error
    assert (error.errno, error.filename) == (2, "/no/such/folder")
    error = conn.run(["/etc/passwd"]).error
    assert (error.errno, error.filename) == (13, "/etc/passwd")


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"nope": 1}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"max_interval": -0.1}, ValueError),
        ({"max_interval": float("nan")}, ValueError),
        ({"encoding": "nope"}, LookupError),
        ({"encoding": 7}, TypeError),
        ({"errors": "nope"}, LookupError),
        ({"on_timeout": "nope"}, ValueError),
        ({"complete": "yes"}, TypeError),
        ({"raise_error": 1}, TypeError),
        ({"input": 7}, TypeError),
        ({"memory": -1}, ValueError),
        ({"command": "twice"}, TypeError),
    ],
)
def test_a_wrong_keyword_is_raised_here_and_starts_nothing(conn, keywords, kind):
    before = len(conn.jobs().value)
    with pytest.raises(kind) as caught:
        conn.run("true", **keywords)
    assert not isinstance(caught.value, mlepool.RemoteError)
    assert len(conn.jobs().value) == before


def test_wrong_calls_of_other_commands_are_raised(conn):
    with pytest.raises(AttributeError, match="did you mean 'jobs'"):
        _ = conn.jobz
    with pytest.raises(TypeError, match="job_id"):
        conn.stop()
    for wrong, kind in (
        ({"signal": "SIGNOPE"}, ValueError),
        ({"grace": -1}, ValueError),
        ({"grace": float("nan")}, ValueError),
        ({}, LookupError),
    ):
        with pytest.raises(kind):
            conn.stop("nobody", raise_error=True, **wrong)
    with pytest.raises(LookupError):
        conn.attach("nobody")
    with pytest.raises(LookupError):
        conn.attach("../token")


# -- much, and odd, output


def test_utf_8_of_every_width_comes_whole(conn):
    text = "".join(itertools.islice(itertools.cycle("aé€\N{GRINNING FACE}\n"), 60_000))
    assert len(text.encode()) > 120_000
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    # Written in pieces of 7 bytes, so that characters are cut everywhere.
    code = f"{code.partition('; ')[0]}; data = sys.stdin.buffer.read()\n"
    code += "import os\nfor at in range(0, len(data), 7): os.write(1, data[at:at+7])"
    listener = conn.run([sys.executable, "-c", code], input=text)
    assert listener.stdout == text
    assert "\ufffd" not in listener.stdout
    assert "".join(f"{line}\n" for line in listener) == text


def test_what_is_no_utf_8_is_replaced_in_lines_and_whole_in_records(conn):
    data = bytes(range(256)) + b"\n\xff\xfe\n\xe2\x82"
    code = f"import os; os.write(1, {data!r})"
    listener = conn.run([sys.executable, "-c", code])
    assert b"".join(piece for _, _, piece in listener.records()) == data
    assert listener.stdout == data.decode("utf-8", "replace")
    assert "\ufffd\ufffd" in list(listener)
    assert conn.run([sys.executable, "-c", code], encoding=None).stdout == data
    latin = conn.run([sys.executable, "-c", code], encoding="latin-1")
    assert latin.stdout == data.decode("latin-1")


LONG_LINE = """
import resource, sys
import mlepool
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with mlepool.add({url!r}) as conn:
    assert conn.run("head -c 1000000 /dev/zero").ok
    before = peak()
    size, ends, parts = 0, set(), 0
    job = conn.run("head -c 100000000 /dev/zero | tr '\\\\0' x", complete=False)
    for part in job:
        assert part.count("x") == len(part)
        size, parts = size + len(part), parts + 1
        ends.add(part.end)
    print(size, parts, ends == {{""}}, job.exit_code, peak() - before)
"""


def resident(pid: int, what: str = "VmRSS") -> int:
    """Give a process's memory in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{what}:")[2].split()[0]) * 1024


def test_a_line_of_100_mb_costs_nobody_its_size(own_worker):
    pids = [own_worker.process.pid, own_worker.supervisor_pid()]
    with mlepool.ClientPool() as pool, pool.add(f"unix:{own_worker.state_dir}") as conn:
        conn.run("head -c 1000000 /dev/zero")
    before = [resident(pid, "VmHWM") for pid in pids]
    code = LONG_LINE.format(url=own_worker.read_join_url())
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    size, parts, only_parts, status, grown = done.stdout.split()
    assert (int(size), only_parts, status) == (100_000_000, "True", "0")
    assert int(parts) >= 100_000_000 // (64 * 1024)
    assert int(grown) * 1024 < 48 * 2**20  # 16 MiB held, and as much on the way
    after = [resident(pid, "VmHWM") for pid in pids]
    assert max(b - a for a, b in zip(before, after, strict=True)) < 16 * 2**20


def test_a_thousand_runs_leave_worker_and_supervisor_as_they_were(own_worker):
    pids = [own_worker.process.pid, own_worker.supervisor_pid()]
    with mlepool.ClientPool() as pool, pool.add("127.0.0.1", own_worker.port) as conn:
        run_many(conn, 200)
        before = [resident(pid) for pid in pids]
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
        run_many(conn, 800)
        after = [resident(pid) for pid in pids]
        assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids] == files
    assert max(b - a for a, b in zip(before, after, strict=True)) < 1.5 * 2**20
    assert used_while_idle(own_worker) < 2


def run_many(conn: mlepool.Connection, count: int) -> None:
    for _ in range(count // 50):
        jobs = [conn.run(["echo", "hi"], complete=False) for _ in range(50)]
        assert all(job.wait().stdout == "hi\n" for job in jobs)


def used_while_idle(worker: RunningWorker) -> int:
    """Give the CPU ticks that a worker and its supervisor use in 2 s of idleness."""

    def used() -> int:
        fields = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for pid in (worker.process.pid, worker.supervisor_pid())
        ]
        return sum(int(one[11]) + int(one[12]) for one in fields)

    before = used()
    deadline = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > deadline)
    return used() - before
