"""Threads for what blocks: bounded, whatever becomes of those who wait."""

import asyncio
import threading

import pytest

from mlepool.worker.threads import Threads, in_thread
from tests.tools import in_real_time


@in_real_time
async def test_what_is_called_gives_its_value_or_its_error():
    assert await in_thread(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(lambda: next(iter(())))


@in_real_time
async def test_the_loop_goes_on_meanwhile():
    go_on = threading.Event()
    call = asyncio.ensure_future(in_thread(go_on.wait))
    await asyncio.sleep(0)
    go_on.set()  # nobody else could
    assert await call is True


def test_a_thread_that_ends_after_its_loop_harms_nobody(monkeypatch):
    failed: list[object] = []
    go_on = threading.Event()
    monkeypatch.setattr(threading, "excepthook", failed.append)

    async def give_up() -> None:
        call = asyncio.ensure_future(in_thread(go_on.wait, name="late"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])

    asyncio.run(give_up())
    (late,) = (one for one in threading.enumerate() if one.name == "late")
    go_on.set()
    late.join(10)
    assert not late.is_alive()
    assert not failed


@in_real_time
async def test_no_more_than_so_many_run_even_if_nobody_waits_for_them():
    threads, go_on, begun = Threads(2), threading.Event(), threading.Semaphore(0)

    def hang() -> bool:
        begun.release()
        return go_on.wait(10)

    calls = [asyncio.ensure_future(threads.call(hang)) for _ in range(5)]
    await asyncio.to_thread(lambda: (begun.acquire(), begun.acquire()))
    for call in calls[:2]:
        call.cancel()  # who waits gives up; the threads hang on
    await asyncio.sleep(0.05)
    assert not begun.acquire(blocking=False)
    go_on.set()
    assert await asyncio.gather(*calls[2:]) == [True, True, True]
