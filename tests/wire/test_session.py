import hmac

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.codec import MAX_FRAME, Data, decode, encode_data
from mlepool.wire.keepalive import (
    FIRST_PING,
    OTHER_WAITS,
    PING_AFTER,
    SILENCE_LIMIT,
)
from mlepool.wire.messages import (
    Bye,
    Ended,
    Event,
    Hello,
    Outcome,
    Ping,
    Pong,
    Proof,
    Request,
    Welcome,
)
from mlepool.wire.session import (
    HANDSHAKE_LIMIT,
    MAX_NAME,
    Role,
    Session,
    State,
    prove,
)
from tests.tools import steady
from tests.wire.cores import (
    CHANNEL,
    EACH_MESSAGE,
    TOKEN,
    client_session,
    deliver,
    frame_of,
    greet,
    open_pair,
    proof_of,
    session_in,
    worker_session,
)
from tests.wire.frozen_v1 import FRAMES, FROM_CLIENT, FROM_WORKER

ROLES = list(Role)
STATES = ["greeting", "proving", "open"]

# Who may receive what, when: written down once more, from the protocol's text.
MAY_RECEIVE = {
    (Role.CLIENT, "greeting"): {"Hello", "Bye"},
    (Role.CLIENT, "proving"): {"Welcome", "Bye"},
    (Role.CLIENT, "open"): {
        *("Accepted", "Ended", "Event", "Skip", "Seen", "Ping", "Pong", "Bye")
    },
    (Role.WORKER, "greeting"): {"Hello", "Bye"},
    (Role.WORKER, "proving"): {"Proof", "Bye"},
    (Role.WORKER, "open"): {
        *("Request", "Attach", "Credit", "Leave", "Look", "Ping", "Pong", "Bye"),
    },
}


def other(role: Role) -> Role:
    return Role.WORKER if role is Role.CLIENT else Role.CLIENT


# -- the handshake


def test_the_handshake_opens_both_sides():
    client, worker = client_session(), worker_session()
    assert [type(one) for one in deliver(client, worker)] == [Hello]
    assert [type(one) for one in deliver(worker, client)] == [Hello]
    assert client.version == worker.version == 1
    assert client.peer == worker.hello
    assert worker.peer == client.hello
    client.prove(proof_of(client))
    assert deliver(client, worker) == [proof_of(client)]
    worker.welcome(Welcome(b"mac", "gpu1"))
    assert deliver(worker, client) == [Welcome(b"mac", "gpu1")]
    assert client.state is worker.state is State.OPEN
    assert client.frames_to_send() == worker.frames_to_send() == []


def test_the_first_clients_are_let_in_today():
    worker = worker_session()
    hello, proof = [worker.receive(frame) for frame in FROM_CLIENT]
    assert (hello, worker.version) == (worker.peer, 1)
    expected = prove(TOKEN, Role.CLIENT, transcript=worker.transcript(CHANNEL))
    assert proof == Proof("", expected)
    worker.welcome(Welcome(b"mac"))
    assert worker.receive(FRAMES["Request"]) in EACH_MESSAGE


def test_the_first_workers_are_understood_today():
    client = client_session()
    hello = client.receive(FROM_WORKER[0])
    assert (hello, client.version) == (client.peer, 1)
    client.prove(proof_of(client))
    welcome = client.receive(FROM_WORKER[1])
    assert isinstance(welcome, Welcome)
    transcript = client.transcript(CHANNEL)
    assert welcome.mac == prove(TOKEN, Role.WORKER, transcript=transcript)
    assert client.receive(FRAMES["Ended"]) in EACH_MESSAGE


def test_both_say_hello_without_waiting():
    for session in (client_session(), worker_session()):
        assert session.frames_to_send() == [frame_of(session.hello)]


def test_requests_flow_only_one_way_and_answers_the_other():
    client, worker = open_pair()
    request = Request(1, "id", "run")
    client.send(request)
    assert deliver(client, worker) == [request]
    answer = Ended(1, Outcome("SUCCEEDED"))
    worker.send(answer)
    assert deliver(worker, client) == [answer]
    with pytest.raises(LocalProtocolError, match="cannot send Ended while open"):
        client.send(answer)
    with pytest.raises(LocalProtocolError, match="cannot send Request while open"):
        worker.send(request)


def test_data_frames_reach_only_clients():
    client, worker = open_pair()
    frame = encode_data(1, 5, b"output")
    data = client.receive(frame)
    assert isinstance(data, Data)
    assert (data.call, data.position, bytes(data.payload)) == (1, 5, b"output")
    with pytest.raises(RemoteProtocolError, match="Data is not expected by the worker"):
        worker.receive(frame)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", ["greeting", "proving"])
def test_data_frames_are_not_expected_before_the_session_is_open(role, state):
    with pytest.raises(RemoteProtocolError, match=f"while {state}"):
        session_in(role, state).receive(encode_data(1, 0, b""))


# -- versions


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((2, 5), (1, 3), 3),
        ((1, 9), (4, 4), 4),
        ((3, 3), (1, 3), 3),
    ],
)
def test_the_newest_common_version_is_agreed_on(ours, theirs, agreed):
    client = client_session(oldest=ours[0], newest=ours[1])
    worker = worker_session(oldest=theirs[0], newest=theirs[1])
    greet(client, worker)
    assert client.version == worker.version == agreed
    assert client.state is worker.state is State.PROVING


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((4, 6), (1, 3))])
def test_ranges_that_do_not_meet_close_both_and_name_both(ours, theirs):
    client = client_session(oldest=ours[0], newest=ours[1], software="mlepool 0.9")
    worker = worker_session(oldest=theirs[0], newest=theirs[1], software="mlepool 7")
    hellos = [session.frames_to_send()[0] for session in (worker, client)]
    for session, hello in zip((client, worker), hellos, strict=True):
        session.receive(hello)
        assert session.state is State.CLOSED
        (frame,) = session.frames_to_send()
        bye = decode(frame)
        assert isinstance(bye, Bye)
        assert bye.code == "version"
        assert bye.reason == session.farewell
        assert f"the client (mlepool 0.9) speaks {ours[0]} to {ours[1]}" in bye.reason
        assert f"the worker (mlepool 7) speaks {theirs[0]} to {theirs[1]}" in bye.reason


def test_a_clash_with_unnamed_software_says_so():
    client = client_session(software="")
    client.receive(frame_of(worker_session(oldest=2, newest=2, software="").hello))
    assert "the client (unknown) speaks 1 to 1" in client.farewell
    assert "the worker (unknown) speaks 2 to 2" in client.farewell


@pytest.mark.parametrize(
    "hello",
    [
        Hello(2, 1, nonce=bytes(32)),
        Hello(1, 1, nonce=bytes(31)),
        Hello(1, 1, nonce=bytes(33)),
        Hello(1, 1),
        Hello(1, 1, "s" * (MAX_NAME + 1), nonce=bytes(32)),
        Hello(1, 1, "", "k" * (MAX_NAME + 1), nonce=bytes(32)),
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_a_hello_that_makes_no_sense_is_an_error(role, hello):
    with pytest.raises(RemoteProtocolError, match="a Hello with"):
        session_in(role, "greeting").receive(frame_of(hello))


def test_names_of_the_greatest_length_are_taken():
    name = "ä" * MAX_NAME
    client = client_session(software=name)
    worker = worker_session(software=name, key=name, oldest=2, newest=2)
    greet(client, worker)
    assert client.farewell.count(name) == 2
    assert client.transcript(b"").count(name.encode()) == 1


# -- proofs


def test_both_sides_make_the_same_transcript():
    client, worker = client_session(), worker_session()
    greet(client, worker)
    assert client.transcript(CHANNEL) == worker.transcript(CHANNEL)


def test_the_right_token_proves_itself():
    client, worker = client_session(), worker_session()
    greet(client, worker)
    expected = prove(TOKEN, Role.CLIENT, transcript=worker.transcript(CHANNEL))
    assert hmac.compare_digest(proof_of(client).mac, expected)


def test_a_wrong_token_does_not():
    client, worker = client_session(), worker_session()
    greet(client, worker)
    expected = prove(TOKEN, Role.CLIENT, transcript=worker.transcript(CHANNEL))
    assert proof_of(client, token="another").mac != expected
    assert proof_of(client, token="").mac != expected


@pytest.mark.parametrize(
    "changes",
    [
        {"client": {"nonce": bytes(32)}},
        {"worker": {"nonce": bytes(32)}},
        {"worker": {"key": "another key"}},
        {"channel": b"the key of who stands between"},
        {"channel": b""},
    ],
    ids=str,
)
def test_a_proof_is_good_for_one_conversation_only(changes):
    client, worker = client_session(), worker_session()
    greet(client, worker)
    recorded = proof_of(client).mac
    client = client_session(**changes.get("client", {}))
    worker = worker_session(**changes.get("worker", {}))
    greet(client, worker)
    transcript = worker.transcript(changes.get("channel", CHANNEL))
    assert recorded != prove(TOKEN, Role.CLIENT, transcript=transcript)


def test_a_clients_proof_does_not_serve_as_a_workers():
    client, worker = client_session(), worker_session()
    greet(client, worker)
    transcript = worker.transcript(CHANNEL)
    assert proof_of(client).mac != prove(TOKEN, Role.WORKER, transcript=transcript)


def test_parts_of_a_transcript_cannot_be_moved_into_each_other():
    texts = []
    for key, channel in (("ab", b"c"), ("a", b"bc"), ("abc", b""), ("", b"abc")):
        client, worker = client_session(), worker_session(key=key)
        greet(client, worker)
        texts.append(client.transcript(channel))
    assert len(set(texts)) == len(texts)


# -- what may come when


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("role", ROLES)
def test_only_what_is_expected_is_received(role, state, message):
    session = session_in(role, state)
    name = type(message).__name__
    if name in MAY_RECEIVE[role, state]:
        received = session.receive(frame_of(message))
        assert received == (None if isinstance(message, Ping) else message)
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive(frame_of(message))
        expected = f"{name} is not expected by the {role.value} while {state}"
        assert str(caught.value) == expected
        assert session.state.value == state


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("role", ROLES)
def test_only_what_the_other_side_expects_is_sent(role, message):
    session = session_in(role, "open")
    name = type(message).__name__
    if name in MAY_RECEIVE[other(role), "open"] - {"Bye"}:
        session.send(message)
        assert session.frames_to_send() == [frame_of(message)]
    else:
        with pytest.raises(LocalProtocolError, match=f"cannot send {name} while open"):
            session.send(message)
        assert session.frames_to_send() == []


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("state", ["greeting", "proving", "closed"])
@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_sent_before_the_session_is_open_or_after(role, state, message):
    session = session_in(role, state)
    with pytest.raises(LocalProtocolError, match=f"while {state}"):
        session.send(message)
    assert session.frames_to_send() == []


@pytest.mark.parametrize("state", ["greeting", "open", "closed"])
def test_proof_and_welcome_have_their_time(state):
    with pytest.raises(LocalProtocolError, match="cannot send Proof"):
        session_in(Role.CLIENT, state).prove(Proof())
    worker = session_in(Role.WORKER, state)
    with pytest.raises(LocalProtocolError, match="cannot send Welcome"):
        worker.welcome(Welcome(b""))
    assert worker.state.value == state


def test_proof_and_welcome_have_their_side():
    with pytest.raises(LocalProtocolError, match="cannot send Proof"):
        session_in(Role.WORKER, "proving").prove(Proof())
    with pytest.raises(LocalProtocolError, match="cannot send Welcome"):
        session_in(Role.CLIENT, "proving").welcome(Welcome(b""))


def test_a_welcome_that_is_too_large_leaves_the_session_as_it_was():
    worker = session_in(Role.WORKER, "proving")
    with pytest.raises(LocalProtocolError, match="over the limit"):
        worker.welcome(Welcome(bytes(MAX_FRAME)))
    assert worker.state is State.PROVING
    assert worker.frames_to_send() == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("frame", [b"", b"\x01", b"\xff", b"\x91\xc3", b"\x91\x63"])
def test_bad_bytes_are_an_error_in_any_state(role, frame):
    for state in STATES:
        with pytest.raises(RemoteProtocolError):
            session_in(role, state).receive(frame)


# -- the end


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("role", ROLES)
def test_a_farewell_closes_both_sides(role, state):
    session, peer = session_in(role, state), session_in(other(role), state)
    session.close("ending", "the worker ends")
    assert session.state is State.CLOSED
    assert session.farewell == "the worker ends"
    assert deliver(session, peer) == [Bye("ending", "the worker ends")]
    assert peer.state is State.CLOSED
    assert peer.farewell == ""


def test_closing_twice_says_goodbye_once():
    session = session_in(Role.CLIENT, "open")
    session.close("closed", "first")
    session.close("protocol", "second")
    assert session.frames_to_send() == [frame_of(Bye("closed", "first"))]
    assert session.farewell == "first"


@pytest.mark.parametrize("role", ROLES)
def test_whatever_comes_after_the_end_is_ignored(role):
    session = session_in(role, "closed")
    for message in EACH_MESSAGE:
        assert session.receive(frame_of(message)) is None
    assert session.receive(b"garbage") is None
    assert session.frames_to_send() == []
    assert session.state is State.CLOSED


def test_a_farewell_of_the_other_side_needs_no_answer():
    session = session_in(Role.WORKER, "open")
    session.receive(frame_of(Bye("closed")))
    session.close("closed", "")
    assert session.frames_to_send() == []


# -- keep-alive: time is a number


@pytest.mark.parametrize("role", ROLES)
def test_a_ping_is_answered_at_once_with_its_number(role):
    session = session_in(role, "open")
    for number in (0, 1, 2**64 - 1, -(2**63)):
        assert session.receive(frame_of(Ping(number))) is None
        assert session.frames_to_send() == [frame_of(Pong(number))]


@pytest.mark.parametrize("role", ROLES)
def test_a_pong_is_passed_on_and_never_answered(role):
    session = session_in(role, "open")
    for number in (0, 1, 7):
        assert session.receive(frame_of(Pong(number))) == Pong(number)
    assert session.frames_to_send() == []


def test_a_client_pings_soon_and_then_silence_ends_it():
    client, worker = open_pair(now=100.0)
    assert client.next_tick() == 100.0 + FIRST_PING
    assert worker.next_tick() == 100.0 + PING_AFTER + OTHER_WAITS
    sent = []
    for second in range(100, 100 + int(SILENCE_LIMIT)):
        assert client.tick(float(second)) is None
        sent += [(second - 100, frame) for frame in client.frames_to_send()]
    assert sent == [(FIRST_PING, frame_of(Ping(1)))]
    assert client.tick(100.0 + SILENCE_LIMIT) == "nothing heard for 60 s"


def test_the_round_trip_is_measured_on_both_sides():
    client, worker = open_pair()
    for near, far in ((client, worker), (worker, client)):
        assert near.rtt is None
        near.ping(10.0)
        near.ping(11.0)
        assert deliver(near, far) == []
        near.heard(10.5)
        assert deliver(far, near) == [Pong(1)]
        assert near.rtt == 0.5


def test_whatever_is_sent_puts_the_ping_off():
    _, worker = open_pair()
    worker.sent(15.0)
    worker.heard(15.0)
    due = 15.0 + PING_AFTER + OTHER_WAITS
    assert worker.next_tick() == due
    assert worker.tick(due - 0.001) is None
    assert worker.frames_to_send() == []
    assert worker.tick(due) is None
    assert worker.frames_to_send() == [frame_of(Ping(1))]
    worker.heard(due + 1)
    assert worker.tick(due + SILENCE_LIMIT) is None


def test_a_link_is_given_up_only_at_the_limit():
    client, _ = open_pair()
    for now in (FIRST_PING, 20.0, 40.0, 59.0):
        assert client.tick(now) is None
    assert client.next_tick() == SILENCE_LIMIT
    assert client.tick(SILENCE_LIMIT - 0.001) is None
    assert client.tick(SILENCE_LIMIT) is not None


def test_a_late_tick_gives_up_and_does_not_ping():
    client, _ = open_pair()
    assert client.tick(10 * SILENCE_LIMIT) is not None
    assert client.frames_to_send() == []


@pytest.mark.parametrize("state", ["greeting", "proving"])
@pytest.mark.parametrize("role", ROLES)
def test_a_handshake_has_a_limit_that_no_sign_of_life_moves(role, state):
    session = session_in(role, state)
    session.heard(HANDSHAKE_LIMIT - 1)
    assert session.next_tick() == HANDSHAKE_LIMIT
    assert session.tick(HANDSHAKE_LIMIT - 0.001) is None
    assert session.tick(HANDSHAKE_LIMIT) == "no handshake within 10 s"


def test_nothing_is_due_after_the_end():
    session = session_in(Role.CLIENT, "closed")
    assert session.next_tick() is None
    assert session.tick(1e9) is None


def test_a_session_can_begin_at_any_time():
    session = Session(Role.CLIENT, client_session().hello, now=-5.0)
    assert session.next_tick() == -5.0 + HANDSHAKE_LIMIT


# -- limits


def test_the_largest_message_passes_and_one_byte_more_does_not():
    client, worker = open_pair()
    overhead = len(frame_of(Event("large", b""))) + 3  # the length takes 5 bytes, not 2
    largest = Event("large", bytes(MAX_FRAME - overhead))
    worker.send(largest)
    assert deliver(worker, client) == [largest]
    with pytest.raises(LocalProtocolError, match="a message of 1048577 bytes"):
        worker.send(Event("large", bytes(MAX_FRAME - overhead + 1)))
    assert worker.frames_to_send() == []
    with pytest.raises(RemoteProtocolError, match="a frame of 1048577 bytes"):
        client.receive(frame_of(largest) + b"\0")


# -- impossible orders


class Driver:
    """Feeds a session, and acts on what it passes on as drivers do."""

    def __init__(self, role: Role) -> None:
        self.session = client_session() if role is Role.CLIENT else worker_session()

    def feed(self, frame: bytes) -> None:
        """Feed a frame; what the session refuses closes it, as Peer does it."""
        try:
            message = self.session.receive(frame)
        except RemoteProtocolError as exc:
            self.session.close("protocol", str(exc))
            return
        if self.session.state is State.PROVING and isinstance(message, Hello):
            if self.session.role is Role.CLIENT:
                self.session.prove(proof_of(self.session))
        elif isinstance(message, Proof):
            self.session.welcome(Welcome(b""))


@steady
@given(st.sampled_from(ROLES), st.lists(st.sampled_from(EACH_MESSAGE), max_size=12))
def test_valid_frames_in_any_order_raise_only_what_is_documented(role, messages):
    driver = Driver(role)
    refused = False
    for message in messages:
        before = driver.session.state
        driver.feed(frame_of(message))
        after = driver.session.state
        assert not (before is State.CLOSED and after is not State.CLOSED)
        refused = refused or after is State.CLOSED
    assert refused == (driver.session.state is State.CLOSED)
    assert all(decode(frame) for frame in driver.session.frames_to_send())


any_hello = st.builds(
    Hello,
    st.integers(-3, 3),
    st.integers(-3, 3),
    st.text(max_size=MAX_NAME + 2),
    st.text(max_size=MAX_NAME + 2),
    st.binary(min_size=31, max_size=33) | st.just(bytes(32)),
)


@steady
@given(st.sampled_from(ROLES), any_hello)
def test_any_hello_leaves_a_session_that_can_go_on_or_has_said_why_not(role, hello):
    driver = Driver(role)
    driver.feed(frame_of(hello))
    frames = [decode(frame) for frame in driver.session.frames_to_send()]
    if driver.session.state is State.CLOSED:
        assert isinstance(frames[-1], Bye)
        assert frames[-1].reason
    else:
        assert driver.session.state is State.PROVING
        assert driver.session.version == 1
        assert driver.session.transcript(b"")


@steady
@given(st.sampled_from(ROLES), st.sampled_from(STATES), st.binary(max_size=100))
def test_random_bytes_raise_only_what_is_documented(role, state, frame):
    session = session_in(role, state)
    try:
        session.receive(frame)
    except RemoteProtocolError:
        assert session.state.value == state
