"""When it is dialled again, how often, and what ends it; in time that jumps."""

import asyncio
from collections.abc import Callable

import pytest

from mlepool.client.connection import AsyncConnection
from mlepool.client.links.redial import (
    DIAL_LIMIT,
    MAX_PAUSE,
    USEFUL_AFTER,
    Backoff,
    Redial,
)
from mlepool.client.links.trust import Target
from mlepool.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    ConnectTimeoutError,
    LinkError,
    MlepoolError,
    UntrustedWorkerError,
    VersionError,
)
from mlepool.peer import Peer
from mlepool.testing.links import MemoryLink, memory_pair
from mlepool.wire.codec import Data
from mlepool.wire.messages import (
    Accepted,
    Attach,
    Ended,
    Hello,
    Message,
    Outcome,
    Proof,
    Request,
    Welcome,
)
from mlepool.wire.session import Role, Session
from tests.tools import in_jumping_time

REFUSED = ConnectError("gpu1", 9922, "refused")


class Dialler:
    """Fails as it is told to; notes when it was asked, and what became of it.

    Args:
        failures: What each attempt raises, the last one for ever; None lets it in, and
            a number is how many seconds it takes.
    """

    def __init__(self, *failures: Exception | float | None) -> None:
        self._failures = list(failures)
        self.times: list[float] = []
        self.failed: list[MlepoolError] = []

    async def _enter(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        one = self._failures.pop(0) if len(self._failures) > 1 else self._failures[0]
        if isinstance(one, Exception):
            raise one
        if one is not None:
            await asyncio.sleep(one)
        self._redial.link_made()

    def redial(self, *, limit: float | None = None) -> Redial:
        self._redial = Redial(self._enter, limit=limit)
        self._redial.begin(LinkError("other", "cut"), self.failed.append)
        return self._redial


def test_pauses_grow_are_random_and_bounded():
    backoff = Backoff()
    assert backoff.next_pause() == 0
    pauses = [backoff.next_pause() for _ in range(100)]
    assert max(pauses[:3]) <= 0.2
    assert 1 < max(pauses) <= MAX_PAUSE
    assert len(set(pauses)) > 90
    backoff.reset()
    assert backoff.next_pause() == 0


@pytest.mark.parametrize(
    ("lasted", "has_worked", "is_useful"),
    [
        (0.0, False, False),
        (USEFUL_AFTER - 1, False, False),
        (USEFUL_AFTER, False, True),
        (0.0, True, True),
    ],
)
def test_pauses_begin_anew_after_a_link_that_was_of_use(lasted, has_worked, is_useful):
    backoff = Backoff()
    for _ in range(10):
        backoff.next_pause()
    backoff.link_ended(lasted, has_worked=has_worked)
    assert (backoff.next_pause() == 0) is is_useful


@in_jumping_time
async def test_what_a_link_was_of_use_for_is_asked_of_each_anew():
    redial = Dialler(None).redial()
    await redial.wait()
    pauses = []
    for stands in [0.0] * 8 + [USEFUL_AFTER, 0.0]:
        await asyncio.sleep(stands)
        redial.link_gone(has_worked=False)
        lost = asyncio.get_running_loop().time()
        redial.begin(LinkError("other", "cut"), lambda _: None)
        while redial.is_on:  # noqa: ASYNC110 - its clock jumps
            await asyncio.sleep(0.001)
        pauses.append(asyncio.get_running_loop().time() - lost)
    assert max(pauses[:8]) > 0.3
    assert pauses[8] < 0.01


@in_jumping_time
async def test_it_goes_on_until_it_is_let_in():
    dialler = Dialler(REFUSED, ConnectTimeoutError("gpu1", 9922, "x"), REFUSED, None)
    began = asyncio.get_running_loop().time()
    await dialler.redial().wait()
    assert dialler.times[0] == began
    assert len(dialler.times) == 4
    assert not dialler.failed


@in_jumping_time
async def test_who_waits_after_a_long_absence_is_served_with_short_pauses():
    dialler = Dialler(REFUSED)
    redial = dialler.redial()
    await asyncio.sleep(3600.0)
    count = len(dialler.times)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await redial.wait()
    assert len(dialler.times) >= count + 6  # without it, one: the others were far off
    assert redial.cause == REFUSED.cause


@in_jumping_time
async def test_an_attempt_that_hangs_is_not_the_last():
    dialler = Dialler(3600.0, None)
    await dialler.redial().wait()
    assert DIAL_LIMIT <= dialler.times[1] - dialler.times[0] < DIAL_LIMIT + 1
    assert not dialler.failed


@in_jumping_time
@pytest.mark.parametrize("limit", [0.5, 100.0])
async def test_after_its_time_it_fails_with_the_last_problem(limit):
    dialler = Dialler(REFUSED)
    began = asyncio.get_running_loop().time()
    await dialler.redial(limit=limit).wait()
    assert dialler.failed == [REFUSED]
    assert asyncio.get_running_loop().time() - began == pytest.approx(limit)


@in_jumping_time
async def test_where_every_attempt_hangs_it_fails_with_why_there_is_no_link():
    dialler = Dialler(3600.0)
    await dialler.redial(limit=60.0).wait()
    assert str(dialler.failed[0]) == "cut"
    assert len(dialler.times) >= 5


@in_jumping_time
@pytest.mark.parametrize(
    "problem",
    [
        AuthenticationError("gpu1", 9922, "x"),
        UntrustedWorkerError("gpu1", 9922, "x"),
        VersionError("gpu1", 9922, "x"),
        ConfigError("known workers are damaged"),
    ],
)
async def test_what_would_not_help_is_not_tried_again(problem):
    dialler = Dialler(REFUSED, problem, None)
    await dialler.redial().wait()
    assert dialler.failed == [problem]
    assert len(dialler.times) == 2


@in_jumping_time
async def test_what_nobody_has_thought_of_ends_it_too(caplog):
    dialler = Dialler(RuntimeError("boo"), None)
    await dialler.redial().wait()
    assert "boo" in str(dialler.failed[0])
    assert "cannot dial again" in caplog.text


@in_jumping_time
async def test_who_waits_skips_a_pause():
    dialler = Dialler(*[REFUSED] * 12, None)
    redial = dialler.redial()
    while len(dialler.times) < 12:  # noqa: ASYNC110 - its clock jumps
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    asked = asyncio.get_running_loop().time()
    await redial.wait()
    assert dialler.times[-1] == asked


@in_jumping_time
async def test_once_cancelled_it_tries_no_more_and_tells_nobody():
    dialler = Dialler(REFUSED)
    redial = dialler.redial()
    await asyncio.sleep(1)
    redial.cancel()
    await redial.wait()
    count = len(dialler.times)
    await asyncio.sleep(1000)
    assert len(dialler.times) == count
    assert not dialler.failed


Answer = Callable[[Request | Attach], Message]

MANY = 40  # attempts: pauses that double come to 30 seconds long before that


class FickleWorker:
    """Lets everybody in, over links in memory, and breaks each of them soon.

    Args:
        answer: What it says to a request before that; None to break the link at once.
    """

    def __init__(self, answer: Answer | None = None) -> None:
        self.times: list[float] = []
        self._answer = answer

    async def dial(self, _: object, *, proxy: str | None) -> MemoryLink:
        assert proxy is None
        if len(self.times) == MANY:
            raise AuthenticationError("fickle", 0, "not again")
        near, far = memory_pair()
        self._loop = asyncio.get_running_loop()
        self.times.append(self._loop.time())
        hello = Hello(1, 1, nonce=bytes(32))
        session = Session(Role.WORKER, hello, now=self._loop.time())
        self._peer = Peer(far, session, handler=self)
        self._peer.start()
        return near

    def message_received(self, message: Message | Data) -> None:
        if isinstance(message, Proof):
            self._peer.session.welcome(Welcome(b"", "fickle"))
            if self._answer is None:
                self._break_soon()
        elif isinstance(message, Request | Attach) and self._answer is not None:
            self._peer.send(self._answer(message))
            self._break_soon()

    def writable(self) -> None: ...

    def peer_gone(self, cause: str, code: str) -> None: ...

    def _break_soon(self) -> None:
        self._loop.call_later(0.001, self._peer.close, "ending", "no wish to go on")


@pytest.fixture
def fickle(monkeypatch):
    """Make connections to workers that let everybody in, and break each link soon."""

    def connect(worker: FickleWorker) -> AsyncConnection:
        monkeypatch.setattr("mlepool.client.connection.dial", worker.dial)
        return AsyncConnection(Target.parse("unix:/fickle"))

    return connect


def accept(request: Request | Attach) -> Message:
    return Accepted(request.call, command="true")


def end(request: Request | Attach) -> Message:
    return Ended(request.call, Outcome("SUCCEEDED", value=True))


@in_jumping_time
async def test_who_only_lets_in_is_not_dialled_in_a_tight_loop(fickle):
    worker = FickleWorker()
    conn = fickle(worker)
    await conn.connect()
    await asyncio.sleep(30)
    await conn.disconnect()
    assert 5 < len(worker.times) < MANY


@in_jumping_time
async def test_a_call_that_is_accepted_again_and_again_is_no_use(fickle):
    worker = FickleWorker(accept)
    conn = fickle(worker)
    await conn.connect()
    listener = await conn.attach("an-id")
    await asyncio.sleep(30)
    await conn.disconnect()
    assert listener.status == "LOST"
    assert 5 < len(worker.times) < MANY


@in_jumping_time
async def test_what_a_connection_asks_by_itself_is_no_use(fickle):
    worker = FickleWorker(end)
    conn = fickle(worker)
    conn.on("metrics", print)
    await conn.connect()
    await asyncio.sleep(30)
    await conn.disconnect()
    assert 5 < len(worker.times) < MANY


@in_jumping_time
async def test_after_a_link_that_has_brought_an_end_the_next_is_dialled_at_once(fickle):
    worker = FickleWorker(end)
    conn = fickle(worker)
    await conn.connect()
    for _ in range(MANY - 1):
        assert await conn._calls.ask("get_time", {})
        while conn.is_connected:  # noqa: ASYNC110 - its clock jumps
            await asyncio.sleep(0.001)
    await conn.disconnect()
    assert len(worker.times) >= MANY - 1
    assert worker.times[-1] - worker.times[0] < 1
