"""Queues of real workers: many runs on few slots, and a worker that is killed."""

import asyncio
import random
import re
import threading
import time
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import kill_worker

pytestmark = pytest.mark.real

MANY = 500
QUEUED = 30
KILLS = 2
PENDING_COST = 8 * 1024  # bytes of a worker's memory for each job that waits
LEFT = 4 * 1024 * 1024  # bytes that a worker may keep of so many


def memory(pid: int) -> int:
    """Bytes of a process that are in memory and not of a file."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    assert found
    return 1024 * int(found[1])


def test_500_runs_at_once_on_two_slots_are_never_more_than_two(start_worker, tmp_path):
    worker = start_worker("two slots", MLEPOOL_MAX_CONCURRENT="2")
    pid = worker.process.pid
    log = tmp_path / "log"
    # Who is not alone with one other can't lock one of the two: it says so.
    script = (
        f"cd {tmp_path}; exec 8>one 9>two; "
        "flock -n 8 || flock -n 9 || echo three >> log; echo $0 >> log"
    )

    async def main() -> None:
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add(f"unix:{worker.state_dir}") as conn,
        ):
            holders = [
                await conn.run("read x", stdin=True, complete=False) for _ in range(2)
            ]
            before = memory(pid)
            jobs = [
                await conn.run(["sh", "-c", script, str(number)], complete=False)
                for number in range(MANY)
            ]
            assert [one.status for one in jobs] == ["PENDING"] * MANY
            assert memory(pid) - before < PENDING_COST * MANY
            for one in holders:
                await one.send_input("\n")
            for one in jobs:
                await one.wait()
            assert {one.exit_code for one in jobs} == {0}
            outcomes = [one.intake.outcome for one in jobs]
            begins = [one.started for one in outcomes if one is not None]
            assert begins == sorted(begins)
            assert memory(pid) - before < LEFT

    asyncio.run(main())
    lines = log.read_text().splitlines()
    assert "three" not in lines
    assert sorted(map(int, lines)) == list(range(MANY))


def test_a_queue_outlives_its_worker_and_runs_each_job_once(start_worker, tmp_path):
    """The worker is killed at random moments, while jobs are asked for, too."""
    chance, ran = random.Random(7), tmp_path / "ran"
    state = start_worker("w", MLEPOOL_MAX_CONCURRENT="1").state_dir

    def kill_often() -> None:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.02, 0.4))
            kill_worker(state)
            start_worker("w", MLEPOOL_MAX_CONCURRENT="1")

    with mlepool.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
        killer = threading.Thread(target=kill_often)
        killer.start()
        jobs = []
        for number in range(QUEUED):
            command = f"echo {number} >> {ran}; sleep 0.02"
            jobs.append(conn.run(command, complete=False, env={"KEY": "secret"}))
        for one in jobs:
            one.wait()
        killer.join()
        assert [one.status.value for one in jobs] == ["SUCCEEDED"] * QUEUED
    assert ran.read_text().split() == [str(number) for number in range(QUEUED)]
    assert list((state / "queue").iterdir()) == []
