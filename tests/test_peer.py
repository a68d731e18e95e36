"""Peers over links in memory, in jumping time."""

import asyncio
import os

import pytest

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.peer import CLOSE_LIMIT, MAX_CAUSE, Peer
from mlepool.testing.links import MemoryLink, Recorder, memory_pair
from mlepool.testing.loop import run
from mlepool.transport.base import Piece
from mlepool.wire.codec import HEADER_SIZE, MAX_DATA, Data, decode, encode
from mlepool.wire.keepalive import FIRST_PING, OTHER_WAITS, PING_AFTER, SILENCE_LIMIT
from mlepool.wire.messages import (
    Bye,
    Event,
    Hello,
    Leave,
    Message,
    Ping,
    Pong,
    Proof,
    Request,
    Welcome,
)
from mlepool.wire.session import (
    HANDSHAKE_LIMIT,
    Role,
    Session,
    State,
)
from tests.tools import in_jumping_time

NONCE = bytes(32)

# What a client takes in until its session is open.
HANDSHAKE_BYTES = len(encode(Hello(1, 1, nonce=NONCE)) + encode(Welcome(b"")))


class Side:
    """One peer, and a handler that notes what it is told.

    Attributes:
        messages: What came, but for the handshake.
        ends: Each end that was told: when, the cause and the code.
    """

    def __init__(self, role: Role, link: MemoryLink, **hello: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.link = link
        first = Hello(hello.get("oldest", 1), hello.get("newest", 1), nonce=NONCE)
        session = Session(role, first, now=self.loop.time())
        self.peer = Peer(link, session, handler=self)
        self.messages: list[Message | Data] = []
        self.ends: list[tuple[float, str, str]] = []
        self.writable_again = 0
        self.refuses: type | None = None
        self._changed = asyncio.Event()

    def message_received(self, message: Message | Data) -> None:
        """Shake hands; note the rest; refuse what the test says."""
        self._changed.set()
        if self.refuses is not None and isinstance(message, self.refuses):
            raise RemoteProtocolError("this handler wants no such thing")
        if isinstance(message, Hello) and self.peer.session.version:
            if self.peer.session.role is Role.CLIENT:
                self.peer.session.prove(Proof())
        elif isinstance(message, Proof):
            self.peer.session.welcome(Welcome(b""))
        elif not isinstance(message, Hello | Welcome):
            self.messages.append(message)

    def writable(self) -> None:
        """Note it."""
        self.writable_again += 1

    def peer_gone(self, cause: str, code: str) -> None:
        """Note it."""
        self.ends.append((self.loop.time(), cause, code))
        self._changed.set()

    async def opened(self) -> None:
        """Wait for the end of the handshake."""
        while self.peer.session.state is not State.OPEN:
            await self._change()

    async def received(self, count: int) -> list[Message | Data]:
        """Wait for so many messages."""
        while len(self.messages) < count:
            await self._change()
        return self.messages

    async def ended(self) -> tuple[float, str, str]:
        """Wait for the end; give when, why and the code."""
        while not self.ends:
            await self._change()
        return self.ends[0]

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def start_pair() -> tuple[Side, Side]:
    near, far = memory_pair()
    client, worker = Side(Role.CLIENT, near), Side(Role.WORKER, far)
    client.peer.start()
    worker.peer.start()
    return client, worker


async def open_pair() -> tuple[Side, Side]:
    client, worker = start_pair()
    await client.opened()
    await worker.opened()
    return client, worker


def start_against_recorder(role: Role) -> tuple[Side, MemoryLink, Recorder]:
    """Start one peer whose other side is played by the test."""
    near, far = memory_pair()
    side, recorder = Side(role, near), Recorder()
    side.peer.start()
    far.attach(recorder)
    return side, far, recorder


async def open_worker() -> tuple[Side, MemoryLink, Recorder]:
    """Open a worker's session by playing the client."""
    worker, link, recorder = start_against_recorder(Role.WORKER)
    link.send(encode(Hello(1, 1, nonce=NONCE)))
    link.send(encode(Proof()))
    await worker.opened()
    await recorder.until(lambda: len(recorder.frames) == 2)
    recorder.frames.clear()
    return worker, link, recorder


# -- the handshake


@in_jumping_time
async def test_two_peers_shake_hands_and_talk():
    client, worker = await open_pair()
    client.peer.send(Request(1, "id", "run"))
    assert await worker.received(1) == [Request(1, "id", "run")]
    worker.peer.send(Event("hello"))
    assert await client.received(1) == [Event("hello")]


@in_jumping_time
async def test_a_peer_says_hello_before_it_is_spoken_to():
    for role in Role:
        side, _, recorder = start_against_recorder(role)
        await recorder.until(lambda: len(recorder.frames) == 1)  # noqa: B023
        assert decode(recorder.frames[0]) == side.peer.session.hello


@in_jumping_time
async def test_a_hello_that_came_early_is_not_missed():
    near, far = memory_pair()
    client = Side(Role.CLIENT, near)
    client.peer.start()
    await asyncio.sleep(1)
    worker = Side(Role.WORKER, far)
    worker.peer.start()
    await client.opened()
    await worker.opened()


@in_jumping_time
async def test_a_handshake_that_does_not_come_is_given_up():
    for role in Role:
        began = asyncio.get_running_loop().time()
        side, _, recorder = start_against_recorder(role)
        when, cause, code = await side.ended()
        assert when - began == HANDSHAKE_LIMIT
        assert cause == "no handshake within 10 s"
        assert code == "silent"
        await recorder.lost()
        assert decode(recorder.frames[-1]) == Bye("silent", cause)


@in_jumping_time
async def test_signs_of_life_do_not_prolong_the_handshake():
    side, link, recorder = start_against_recorder(Role.WORKER)
    link.send(encode(Hello(1, 1, nonce=NONCE)))
    await asyncio.sleep(HANDSHAKE_LIMIT - 1)
    assert not side.ends
    assert (await side.ended())[0] == HANDSHAKE_LIMIT


@in_jumping_time
async def test_versions_that_do_not_meet_end_both_with_the_same_words():
    near, far = memory_pair()
    client = Side(Role.CLIENT, near)
    worker = Side(Role.WORKER, far, oldest=2, newest=3)
    client.peer.start()
    worker.peer.start()
    for side in (client, worker):
        _, cause, code = await side.ended()
        assert code == "version"
        assert "the client (unknown) speaks 1 to 1" in cause
        assert "the worker (unknown) speaks 2 to 3" in cause
        assert len(side.ends) == 1


# -- data and flow


def piece_of(payload: bytes) -> Piece:
    """Put bytes into a file; its descriptor lives as long as the test process."""
    file = os.memfd_create("journal")
    os.write(file, payload)
    return Piece(file, 0, len(payload))


@in_jumping_time
async def test_data_goes_past_the_session():
    client, worker = await open_pair()
    worker.peer.send_data(7, 100, piece_of(b"output"))
    (data,) = await client.received(1)
    assert isinstance(data, Data)
    assert (data.call, data.position, bytes(data.payload)) == (7, 100, b"output")
    assert len(data.frame) == HEADER_SIZE + 6


@in_jumping_time
async def test_bulk_waits_while_the_other_side_reads_nothing():
    client, worker = await open_pair()
    client.link.stall()
    assert not worker.peer.is_full
    while not worker.peer.is_full:
        worker.peer.send_data(1, 0, piece_of(bytes(MAX_DATA)))
    await asyncio.sleep(1)
    assert worker.writable_again == 0
    client.link.resume()
    await asyncio.sleep(1)
    assert not worker.peer.is_full
    assert worker.writable_again == 1


@in_jumping_time
async def test_who_is_gone_is_not_told_that_it_may_write():
    client, worker = await open_pair()
    client.link.stall()
    while not worker.peer.is_full:
        worker.peer.send_data(1, 0, piece_of(bytes(MAX_DATA)))
    worker.peer.close()
    worker.peer.writable()
    assert worker.writable_again == 0


# -- keep-alive


@in_jumping_time
async def test_silence_is_answered_with_one_ping_at_a_time():
    worker, link, recorder = await open_worker()
    opened = worker.loop.time()
    await recorder.until(lambda: bool(recorder.frames))
    assert worker.loop.time() == opened + PING_AFTER + OTHER_WAITS
    assert recorder.frames == [encode(Ping(1))]
    link.send(encode(Pong(1)))
    await recorder.until(lambda: len(recorder.frames) == 2)
    assert worker.loop.time() == opened + 2 * (PING_AFTER + OTHER_WAITS)
    assert recorder.frames[1] == encode(Ping(2))


@in_jumping_time
async def test_a_peer_that_stays_silent_is_given_up_after_sixty_seconds():
    worker, _, recorder = await open_worker()
    opened = worker.loop.time()
    when, cause, code = await worker.ended()
    assert when == opened + SILENCE_LIMIT == opened + 60
    assert (cause, code) == ("nothing heard for 60 s", "silent")
    await recorder.lost()
    frames = [decode(frame) for frame in recorder.frames]
    assert frames == [Ping(1), Bye("silent", "nothing heard for 60 s")]


@in_jumping_time
async def test_a_client_measures_the_round_trip_soon_after_the_welcome():
    client, worker = await open_pair()
    client.peer.reset_timer()
    opened = client.loop.time()
    await client.received(1)
    assert client.messages == [Pong(1)]
    assert client.loop.time() == opened + FIRST_PING
    assert client.peer.session.rtt == 0.0  # in memory
    worker.link.stall()
    client.peer.ping()
    await asyncio.sleep(7)
    client.peer.ping()  # one is under way
    worker.link.resume()
    await client.received(2)
    assert client.messages == [Pong(1), Pong(2)]
    assert client.peer.session.rtt == 7.0


@in_jumping_time
@pytest.mark.parametrize("pause", [1.0, PING_AFTER - 1, SILENCE_LIMIT - 1])
async def test_one_side_may_do_all_the_talking(pause):
    client, worker = await open_pair()
    for number in range(100):
        await asyncio.sleep(pause)
        worker.peer.send(Event("state-change", number))
    await asyncio.sleep(SILENCE_LIMIT - 1)
    assert not client.ends
    assert not worker.ends
    pings = [one for one in client.messages if isinstance(one, Pong)]
    assert len(pings) <= 100 * pause / PING_AFTER + 4


@in_jumping_time
async def test_two_peers_keep_each_other_alive_for_hours():
    client, worker = await open_pair()
    await asyncio.sleep(10 * 3600)
    assert not client.ends
    assert not worker.ends
    client.peer.close()


@in_jumping_time
async def test_both_sides_give_up_when_nothing_moves_any_more():
    client, worker = await open_pair()
    opened = client.loop.time()
    client.link.stall()
    worker.link.stall()
    for side in (client, worker):
        when, _, code = await side.ended()
        assert (when, code) == (opened + SILENCE_LIMIT, "silent")


@in_jumping_time
async def test_a_stall_shorter_than_the_limit_is_survived():
    client, worker = await open_pair()
    client.link.stall()
    await asyncio.sleep(SILENCE_LIMIT - 1)
    client.link.resume()
    await asyncio.sleep(10 * SILENCE_LIMIT)
    assert not client.ends
    assert not worker.ends


@in_jumping_time
async def test_a_ping_is_answered():
    _, link, recorder = await open_worker()
    link.send(encode(Ping(42)))
    await recorder.until(lambda: recorder.frames == [encode(Pong(42))])


# -- the end


@in_jumping_time
async def test_a_protocol_error_closes_only_its_own_link_with_one_clear_bye():
    bystanders = await open_pair()
    worker, link, recorder = await open_worker()
    for frame in (encode(Leave(1)), b"garbage", encode(Leave(2)), b"more garbage"):
        link.send(frame)
    _, cause, code = await worker.ended()
    assert code == "protocol"
    assert cause.startswith("not a message: ")
    await recorder.lost()
    assert [decode(frame) for frame in recorder.frames] == [Bye("protocol", cause)]
    assert worker.messages == [Leave(1)]
    assert len(worker.ends) == 1
    for side in bystanders:
        assert not side.peer.is_gone
        assert not side.ends


@pytest.mark.parametrize(
    "message", [Welcome(b""), Event("x"), Hello(1, 1, nonce=NONCE), Proof()]
)
@in_jumping_time
async def test_a_message_out_of_turn_is_named_in_the_bye(message):
    worker, link, recorder = await open_worker()
    link.send(encode(message))
    await recorder.lost()
    (bye,) = [decode(frame) for frame in recorder.frames]
    assert isinstance(bye, Bye)
    name = type(message).__name__
    assert bye.reason == f"{name} is not expected by the worker while open"


@in_jumping_time
async def test_what_the_handler_refuses_is_a_protocol_error_too():
    worker, link, recorder = await open_worker()
    worker.refuses = Leave
    link.send(encode(Leave(1)))
    await recorder.lost()
    reason = "this handler wants no such thing"
    assert [decode(frame) for frame in recorder.frames] == [Bye("protocol", reason)]
    assert [end[1:] for end in worker.ends] == [(reason, "protocol")]


@in_jumping_time
async def test_closing_tells_the_other_side_why():
    client, worker = await open_pair()
    worker.peer.close("ending", "the worker ends")
    worker.peer.close("closed", "again")
    assert (await client.ended())[1:] == ("the worker ends", "ending")
    assert [end[1:] for end in worker.ends] == [("the worker ends", "ending")]
    assert client.peer.is_gone
    assert worker.peer.is_gone


@in_jumping_time
async def test_a_bye_without_a_reason_gives_its_code():
    client, worker = await open_pair()
    client.peer.close()
    assert (await worker.ended())[1:] == ("closed", "closed")
    assert [end[1:] for end in client.ends] == [("closed", "closed")]


@in_jumping_time
async def test_a_reason_from_elsewhere_is_one_printable_line_and_no_long_one():
    side, far, _ = start_against_recorder(Role.WORKER)
    far.send(encode(Bye("protocol", "bad\n2026-01-01 forged\x1b[31m" + "x" * 100_000)))
    _, cause, code = await side.ended()
    assert code == "protocol"
    assert cause.startswith("bad 2026-01-01 forged [31mxxx")
    assert cause.endswith("x...")
    assert len(cause) == MAX_CAUSE


@in_jumping_time
async def test_a_lost_link_is_told_once_and_needs_no_bye():
    client, worker = await open_pair()
    worker.link.cut()
    for side in (client, worker):
        assert (await side.ended())[1:] == ("the link was cut", "lost")
    await asyncio.sleep(10 * SILENCE_LIMIT)
    assert len(client.ends) == len(worker.ends) == 1


@pytest.mark.parametrize("after", range(HANDSHAKE_BYTES + 1))
@in_jumping_time
async def test_a_link_may_break_after_any_byte_of_the_handshake(after):
    near, far = memory_pair()
    client, worker = Side(Role.CLIENT, near), Side(Role.WORKER, far)
    near.cut(after_bytes=after)
    client.peer.start()
    worker.peer.start()
    for side in (client, worker):
        when, cause, code = await side.ended()
        assert code == "lost"
        assert when == 0.0, "the loss was noticed only by silence"


@in_jumping_time
async def test_a_link_that_was_lost_before_the_start_is_told_too():
    near, far = memory_pair()
    near.cut()
    await asyncio.sleep(1)
    client = Side(Role.CLIENT, near)
    client.peer.start()
    assert (await client.ended())[2] == "lost"


@in_jumping_time
async def test_a_peer_that_was_closed_before_its_start_stays_closed():
    near, far = memory_pair()
    client = Side(Role.CLIENT, near)
    client.peer.close()
    client.peer.start()
    await asyncio.sleep(10 * SILENCE_LIMIT)
    assert [end[1:] for end in client.ends] == [("closed", "closed")]


@in_jumping_time
async def test_closing_can_be_waited_for_until_the_link_is_gone():
    client, worker = await open_pair()
    began = client.loop.time()
    client.peer.close()
    await client.peer.wait_closed()
    await client.peer.wait_closed()
    assert client.loop.time() == began
    await worker.ended()
    await worker.peer.wait_closed()


@in_jumping_time
async def test_a_link_that_does_not_let_go_is_not_waited_for_long(caplog):
    client, _ = await open_pair()
    client.link.stall()  # it sees nothing of what the other side does
    client.link.close = lambda: None  # type: ignore[method-assign]
    began = client.loop.time()
    client.peer.close()
    await client.peer.wait_closed()
    assert client.loop.time() == began + CLOSE_LIMIT
    assert "memory does not let go of its link" in caplog.text


@in_jumping_time
async def test_nothing_is_sent_after_the_end():
    client, worker = await open_pair()
    client.peer.close()
    client.peer.send(Request(1, "id", "run"))
    client.peer.send_data(1, 0, piece_of(b"x"))
    await worker.ended()
    assert worker.messages == []


@in_jumping_time
async def test_nothing_is_received_after_the_end():
    worker, _, recorder = await open_worker()
    worker.peer.close()
    worker.peer.frame_received(encode(Leave(1)))
    worker.peer.frame_received(b"garbage")
    worker.peer.link_lost("again")
    await recorder.lost()
    assert worker.messages == []
    assert len(worker.ends) == 1


@in_jumping_time
async def test_a_handler_may_close_while_it_takes_a_message():
    worker, link, recorder = await open_worker()

    def leave(message: Message | Data) -> None:
        worker.peer.close("refused", "not today")

    worker.message_received = leave  # type: ignore[method-assign]
    link.send(encode(Leave(1)))
    link.send(encode(Leave(2)))
    await recorder.lost()
    assert [decode(one) for one in recorder.frames] == [Bye("refused", "not today")]
    assert [end[1:] for end in worker.ends] == [("not today", "refused")]


@in_jumping_time
async def test_what_may_not_be_sent_is_our_own_error_and_harms_nothing():
    client, worker = await open_pair()
    with pytest.raises(LocalProtocolError, match="cannot send Event while open"):
        client.peer.send(Event("x"))
    client.peer.send(Leave(1))
    assert await worker.received(1) == [Leave(1)]


def test_a_peer_that_ended_leaves_no_timer_behind():
    async def end_and_wait() -> None:
        client, worker = await open_pair()
        client.peer.close()
        await worker.ended()
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="deadlock"):
        run(end_and_wait())
