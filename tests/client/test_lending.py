"""A loop that others act for while it sleeps: when it is, and what breaks in."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from mlepool.client.lending import LendingLoop
from tests.conftest import wait_until

pytestmark = pytest.mark.real

LIMIT = 10  # seconds


@pytest.fixture
def loop() -> Iterator[LendingLoop]:
    """A loop that runs in a thread of its own."""
    loop = LendingLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def do(loop: LendingLoop, function: Callable[[], object]) -> None:
    """Act for the loop as soon as it sleeps."""
    wait_until(lambda: loop.do_now(function))


def in_a_thread(function: Callable[[], object]) -> None:
    """Call it where no signal is handled."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_who_acts_for_a_loop_is_in_it(loop, bare_signals):
    found = []

    def act():
        found.append((asyncio.get_running_loop(), threading.get_ident()))
        assert loop.borrower == threading.get_ident()

    do(loop, act)
    in_a_thread(lambda: do(loop, act))
    assert [one for one, _ in found] == [loop, loop]
    assert found[0][1] == threading.get_ident() != found[1][1]
    assert loop.borrower == 0
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_who_is_in_a_loop_of_its_own_is_back_in_it(loop, bare_signals):
    async def cell():
        own = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as notebooks do
        do(loop, lambda: None)
        assert asyncio.get_running_loop() is own
        await asyncio.sleep(0)

    asyncio.run(cell())


def test_a_loop_that_is_busy_is_left_alone(loop, bare_signals):
    begun, go_on = threading.Event(), threading.Event()
    do(loop, lambda: None)

    def work():
        begun.set()
        go_on.wait(LIMIT)

    loop.call_soon_threadsafe(work)
    assert begun.wait(LIMIT)
    assert not loop.do_now(lambda: pytest.fail("it was called"))
    go_on.set()
    do(loop, lambda: None)


def test_a_loop_waits_for_who_acts_for_it(loop):
    order: list[str] = []
    ended = threading.Event()

    def act():
        loop.call_soon_threadsafe(order.append, "the loop")
        loop.call_soon_threadsafe(ended.set)
        assert not ended.wait(0.1)
        order.append("who acts")

    in_a_thread(lambda: do(loop, act))
    assert ended.wait(LIMIT)
    assert order == ["who acts", "the loop"]


def test_one_acts_at_a_time(loop):
    counts = [0, 0]

    def act():
        counts[0] += 1
        assert counts[0] == counts[1] + 1
        counts[1] += 1

    def act_often():
        for _ in range(500):
            if not loop.do_now(act):
                loop.call_soon_threadsafe(act)

    threads = [threading.Thread(target=act_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: counts == [4000, 4000])


def test_what_is_begun_for_a_loop_goes_on_in_it(loop, bare_signals):
    done = [threading.Event() for _ in range(4)]
    ours, theirs = socket.socketpair()

    async def run():
        await asyncio.sleep(0)
        done[2].set()

    def read():
        assert ours.recv(1)
        done[3].set()

    with ours, theirs:
        do(loop, lambda: loop.call_soon(done[0].set))
        do(loop, lambda: loop.call_later(0.01, done[1].set))
        do(loop, lambda: loop.create_task(run()))
        do(loop, lambda: loop.add_reader(ours, read))
        theirs.send(b"x")
        assert all(one.wait(LIMIT) for one in done)
        do(loop, lambda: loop.remove_reader(ours))


def test_a_loop_that_nothing_was_begun_for_sleeps_on(loop, monkeypatch, bare_signals):
    do(loop, lambda: None)
    monkeypatch.setattr(loop, "call_soon_threadsafe", pytest.fail)
    do(loop, lambda: None)
    monkeypatch.undo()


def test_an_error_is_raised_and_the_loop_is_given_back(loop, bare_signals):
    def fail():
        loop.call_soon(done.set)
        raise LookupError("no")

    done = threading.Event()
    with pytest.raises(LookupError):
        do(loop, fail)
    assert done.wait(LIMIT)
    do(loop, lambda: None)


def test_ctrl_c_comes_after_what_it_must_not_break(loop, bare_signals):
    ended = []

    def act():
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        do(loop, act)
    assert ended == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    do(loop, lambda: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGALRM])
def test_a_program_that_handles_signals_does_not_act_in_its_main_thread(
    loop, bare_signals, number
):
    do(loop, lambda: None)
    signal.signal(number, lambda *_: None)
    wait_until(lambda: loop._rest.is_on)
    assert not loop.do_now(lambda: pytest.fail("it was called"))
    in_a_thread(lambda: do(loop, lambda: None))
    signal.signal(number, signal.SIG_IGN)
    do(loop, lambda: None)
    signal.signal(number, signal.SIG_DFL)


def test_a_loop_that_looks_for_mistakes_is_left_alone(loop, bare_signals):
    do(loop, lambda: None)
    loop.set_debug(True)
    wait_until(lambda: loop._rest.is_on)
    assert not loop.do_now(lambda: pytest.fail("it was called"))
    loop.set_debug(False)
