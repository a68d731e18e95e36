"""What no honest client says, sent to real workers.

The same holds everywhere: a documented error, that connection closed, else no harm.
"""

import random
import secrets
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
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
from tests.raw import (
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
