"""One call driven over hosts that can't be reached: in virtual time, without any."""

import asyncio
import logging

import pytest

import mlepool
from mlepool.client.groups import quarantine
from mlepool.client.groups.waves import MAX_PAUSE
from mlepool.errors import ConnectionClosedError
from tests.tools import in_jumping_time


def pool_of_nobody(folder, count: int) -> mlepool.AsyncClientPool:
    """Make a pool of hosts whose sockets are not there."""
    pool = mlepool.AsyncClientPool()
    for number in range(count):
        pool.add(f"unix:{folder}/none", name=f"gone{number}")
    return pool


@in_jumping_time
async def test_a_call_on_no_host_does_well_and_says_so(tmp_path, caplog):
    pool = pool_of_nobody(tmp_path, 1)
    done = await pool.select("gpu=h100").run("true")
    assert (done.ok, list(done)) == (True, [])
    assert caplog.messages == ["run 'true': there is no host to do it"]
    await pool.close()
    with pytest.raises(ConnectionClosedError, match="each host of the pool is closed"):
        await pool.run("true")


def now() -> float:
    return asyncio.get_running_loop().time()


@in_jumping_time
async def test_who_can_not_be_reached_is_tried_again_with_pauses_and_then_lost(
    tmp_path,
):
    pool = pool_of_nobody(tmp_path, 3)
    began = now()
    live = await pool.run("true", retries=4)
    assert live.lost == live.names
    assert 7.5 <= now() - began <= 15.0  # 1, 2, 4 and 8 s, or half of it: side by side
    assert live.attempts == {name: [] for name in live.names}  # none had begun
    error = live["gone0"].error
    assert isinstance(error, mlepool.ConnectError)


@in_jumping_time
async def test_while_it_waits_for_another_try_all_can_be_stopped(tmp_path):
    live = await pool_of_nobody(tmp_path, 2).run("true", retries=9, complete=False)
    await asyncio.sleep(MAX_PAUSE)
    assert live.waiting or live.running
    began = now()
    await live.stop()
    await live.wait()
    assert now() == began
    assert live.lost == live.names


@in_jumping_time
async def test_cancelled_the_caller_is_gone_and_nothing_begins(tmp_path):
    pool = pool_of_nobody(tmp_path, 4)
    live = await pool.run("true", batch=1, retries=9, complete=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await live.wait()
    assert not live.done  # only the wait was cancelled
    live.close()
    await live.wait()
    assert (live.lost, live.skipped) == (live.names[:1], live.names[1:])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await pool.run("true", retries=20)
    assert not asyncio.all_tasks() - {asyncio.current_task()}


@in_jumping_time
async def test_a_batch_of_hosts_that_are_gone_is_the_last(tmp_path):
    live = await pool_of_nobody(tmp_path, 500).run("true", batch=200)
    assert (len(live.lost), len(live.skipped)) == (200, 300)
    assert [live[f"gone{number}"].status for number in (199, 200)] == ["LOST", "FAILED"]
    assert len(live.table()) == 500
    (unreached, *_), *_ = live.grouped()
    assert live.diff() == ""
    assert "gone" in unreached


@in_jumping_time
async def test_where_all_are_gone_it_is_the_network_and_nobody_is_left_out(
    tmp_path, caplog
):
    pool = pool_of_nobody(tmp_path, 3)
    with caplog.at_level(logging.WARNING, "mlepool.client"):
        for _ in range(quarantine.STRIKES + 1):
            await pool.run("true")
    assert pool.quarantined == {}
    assert caplog.records == []
