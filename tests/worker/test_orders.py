"""Who waits for the supervisor, and for which of its answers."""

import asyncio
from typing import Any

import pytest

from mlepool.errors import WorkerError
from mlepool.supervisor.messages import Fed, Feed, Stop, Stopped
from mlepool.wire.values import StopReport
from mlepool.worker.orders import Orders
from tests.tools import in_real_time


@in_real_time
async def test_a_report_is_for_all_who_stop_that_job():
    orders = Orders()
    waiting: list[Any] = [
        orders.add_stop(Stop("a")),
        orders.add_stop(Stop("a", "SIGKILL")),
    ]
    other = orders.add_stop(Stop("b"))
    report = StopReport("a", "STOPPED")
    orders.stopped(Stopped("a", report))
    assert await asyncio.gather(*waiting) == [report, report]
    assert not other.done()
    orders.stopped(Stopped("nobody", report))


@in_real_time
async def test_input_is_answered_once_all_of_it_is_taken():
    orders = Orders()
    first, second = orders.add_feed(Feed("a", 0, b"xy")), orders.add_feed(Feed("a", 2))
    orders.fed(Fed("a", 1))
    assert not first.done()
    orders.fed(Fed("a", 2))
    assert (await first).offset == (await second).offset == 2


@pytest.mark.parametrize("final", [Fed("a", 1, closed=True), Fed("a", 1, problem="x")])
@in_real_time
async def test_what_is_final_answers_all_input(final):
    orders = Orders()
    waiting = [orders.add_feed(Feed("a", number, b"xy")) for number in (0, 2)]
    orders.fed(final)
    assert await asyncio.gather(*waiting) == [final, final]


@in_real_time
async def test_the_next_supervisor_is_asked_for_what_somebody_waits_for():
    orders = Orders()
    gone: list[Any] = [orders.add_stop(Stop("a")), orders.add_feed(Feed("a", 0))]
    orders.add_stop(Stop("b"))
    orders.add_stop(Stop("b", "SIGKILL"))
    orders.add_feed(Feed("b", 5, b"x"))
    for future in gone:
        future.cancel()
    assert orders.unanswered() == [Stop("b", "SIGKILL"), Feed("b", 5, b"x")]
    orders.stopped(Stopped("a", StopReport("a", "STOPPED")))
    orders.fed(Fed("a", 0, closed=True))


@in_real_time
async def test_who_waits_in_vain_is_told_so():
    orders = Orders()
    waiting: list[Any] = [orders.add_stop(Stop("a")), orders.add_feed(Feed("a", 0))]
    waiting[1].cancel()
    orders.fail("nobody is there")
    with pytest.raises(WorkerError, match="nobody is there"):
        await waiting[0]
    assert orders.unanswered() == []
