import asyncio
import socket
import time

import pytest

from mlepool.testing.loop import JumpingLoop, run

LONG = 30 * 24 * 3600.0  # seconds: a month
SOON = 5.0  # seconds of real time that no test here may take


def test_a_month_of_sleep_takes_no_time():
    async def main() -> float:
        await asyncio.sleep(LONG)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) == pytest.approx(LONG)
    assert time.monotonic() - began < SOON


def test_the_clock_begins_at_zero_and_stands_still_while_there_is_work():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        for _ in range(100):
            assert loop.time() == 0.0
            await asyncio.sleep(0)

    run(main())


def test_timers_come_in_their_order_and_at_their_time():
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []

        def note(name: str) -> None:
            seen.append((name, loop.time()))

        for delay in (3.0, 1.0, 2.0):
            loop.call_later(delay, note, f"{delay:g}")
        loop.call_at(2.5, note, "2.5")
        await asyncio.sleep(4)
        return seen

    assert run(main()) == [("1", 1.0), ("2", 2.0), ("2.5", 2.5), ("3", 3.0)]


def test_timeouts_obey_the_clock():
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.sleep(61)
        return asyncio.get_running_loop().time()

    assert run(main()) == 60.0


def test_a_timer_that_was_cancelled_is_not_waited_for():
    async def main() -> float:
        asyncio.get_running_loop().call_later(LONG, print).cancel()
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    assert run(main()) == 1.0


def test_waiting_for_what_never_comes_is_a_deadlock():
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock: every task waits"):
        run(main())


def test_tasks_that_wait_for_each_other_are_a_deadlock():
    async def wait_and_set(mine: asyncio.Event, others: asyncio.Event) -> None:
        await others.wait()
        mine.set()

    async def main() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_and_set(one, two))
            group.create_task(wait_and_set(two, one))

    with pytest.raises(RuntimeError, match="deadlock"):
        run(main())


def test_a_deadlock_still_lets_tasks_clean_up():
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("yes")

    with pytest.raises(RuntimeError, match="deadlock"):
        run(main())
    assert cleaned == ["yes"]


def test_a_deadlock_within_a_timeout_is_only_a_timeout():
    async def main() -> None:
        async with asyncio.timeout(10):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(main())


def test_what_a_test_raises_comes_out():
    async def main() -> None:
        raise LookupError("of the test's own")

    with pytest.raises(LookupError, match="of the test's own"):
        run(main())


def test_sockets_that_are_ready_are_seen_without_waiting():
    async def main() -> bytes:
        near, far = socket.socketpair()
        with near, far:
            for end in (near, far):
                end.setblocking(False)
            loop = asyncio.get_running_loop()
            near.send(b"already there")
            data = await loop.sock_recv(far, 100)
            ready: asyncio.Future[bytes] = loop.create_future()
            loop.add_reader(far, lambda: ready.set_result(far.recv(100)))
            near.send(b" and more")
            data += await ready
            loop.remove_reader(far)
            return data

    assert run(main()) == b"already there and more"
