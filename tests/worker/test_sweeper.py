"""The disk that journals are on, as a worker watches it: full, and no longer so."""

import asyncio
from typing import Any

import pytest

from mlepool.config import Limits, Retention
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
