"""The disk that journals are on, as a worker watches it: full, and no longer so."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mlepool.config import Limits, Retention
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.wire.messages import Outcome
from mlepool.wire.records import STDOUT
from mlepool.worker import sweeper
from mlepool.worker.known import KnownJobs
from mlepool.worker.sweeper import Sweeper
from tests.needs import small_disk

pytestmark = pytest.mark.real

MIB = 1024 * 1024


def test_a_disk_is_told_to_be_full_and_by_itself_that_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeper, "SWEEP_PAUSE", 0.05)
    told: list[dict[str, Any]] = []

    async def watch(disk) -> None:
        news = asyncio.Event()

        def tell(state) -> None:
            told.append(state)
            news.set()

        jobs = KnownJobs(disk, ended=lambda job: None)
        limits, retention = Limits(keep_free=0), Retention()
        own = Sweeper(disk, jobs, limits=limits, retention=retention, tell=tell)
        own.disk.dropped = 7
        await own.open()
        (disk / "hog").write_bytes(bytes(1536 * 1024))
        own.hurry()
        async with asyncio.timeout(10):
            await news.wait()
            news.clear()
            (disk / "hog").unlink()
            await news.wait()  # nobody hurries it
        own.close()

    with small_disk(tmp_path / "disk", "2m") as disk:
        asyncio.run(watch(disk))
    assert [one["status"] for one in told] == ["full", "ok"]
    assert told[0]["free"] < MIB < told[1]["free"]
    assert told[0]["dropped"] == 7


def leave_job(disk: Path, size: int) -> None:
    """Write the journal of a job that ended an hour ago."""
    writer = JournalWriter(disk, JobHead("old", "yes", "/", 1.0))
    writer.begin(JobProcess(1, (0, 0), 1.0))
    for _ in range(size // 65536):
        writer.append(STDOUT, bytes(65536), time=1.0)
    writer.finish(writer.complete(Outcome("SUCCEEDED", ended=1.0)))
    os.close(writer.release())
    an_hour_ago = time.time() - 3600
    os.utime(disk / "old.journal", (an_hour_ago, an_hour_ago))


def test_a_disk_is_told_to_be_full_though_old_jobs_give_room_at_once(tmp_path):
    told: list[dict[str, Any]] = []

    async def watch(disk: Path) -> None:
        roomy = asyncio.Event()

        def tell(state: dict[str, Any]) -> None:
            told.append(state)
            if state["status"] == "ok":
                roomy.set()

        leave_job(disk, 2 * MIB)
        (disk / "hog").write_bytes(bytes(5 * MIB + MIB // 2))
        limits, retention = Limits(keep_free=0.25), Retention()
        jobs = KnownJobs(disk, ended=lambda job: None)
        own = Sweeper(disk, jobs, limits=limits, retention=retention, tell=tell)
        await own.open()
        async with asyncio.timeout(10):
            await roomy.wait()
        own.close()
        assert not (disk / "old.journal").exists()

    with small_disk(tmp_path / "disk", "8m") as disk:
        asyncio.run(watch(disk))
    assert [one["status"] for one in told] == ["full", "ok"]
