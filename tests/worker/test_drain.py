"""A worker's end in order: nothing new, what goes on, and time that is up."""

import asyncio

import pytest

from mlepool.errors import WorkerError
from mlepool.worker.drain import LOOK_EVERY, Drain
from tests.tools import in_jumping_time


async def nothing() -> None:
    pass


@in_jumping_time
async def test_it_ends_when_all_is_finished():
    busy = True
    drain = Drain(lambda: busy, nothing)
    drain.check()
    drain.begin(100.0)
    drain.begin(0.0)  # too late to change one's mind
    with pytest.raises(WorkerError, match="about to end"):
        drain.check()
    await asyncio.sleep(50)
    assert not drain.ended.is_set()
    busy = False
    await asyncio.sleep(2 * LOOK_EVERY)
    assert drain.ended.is_set()


@in_jumping_time
async def test_it_ends_when_time_is_up():
    drain = Drain(lambda: True, nothing)
    drain.begin(10.0)
    await asyncio.sleep(9.9)
    assert not drain.ended.is_set()
    await asyncio.sleep(0.2)
    assert drain.ended.is_set()


@in_jumping_time
async def test_the_last_answer_goes_out_first():
    drain = Drain(lambda: False, nothing)
    drain.begin(10.0)
    await asyncio.sleep(0)
    assert not drain.ended.is_set()
    drain.close()
    drain.close()
    await asyncio.sleep(1)
    assert not drain.ended.is_set()


@in_jumping_time
async def test_it_closes_the_worker_which_ends_its_wait():
    closed: list[bool] = []

    async def close() -> None:
        drain.close()  # as a worker that closes for another reason does
        await asyncio.sleep(1)
        closed.append(drain.ended.is_set())

    drain = Drain(lambda: False, close)
    drain.begin(10.0)
    await drain.ended.wait()
    assert closed == [False]
