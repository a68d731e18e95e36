"""One folder to many workers: read once, and nobody waits for who is slow or gone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import kill_worker
from mlepool.testing.proxy import FaultProxy
from tests.conftest import wait_until
from tests.test_sync import differences
from tests.tools import in_real_time

pytestmark = pytest.mark.real

COUNT_WHAT_IS_READ = """
import sys, mlepool
source, target, *ports = sys.argv[1:]
def count():
    return int(open("/proc/self/io").readline().split()[1])
with mlepool.ClientPool() as pool:
    for port in ports:
        pool.add("localhost", int(port))
    pool.connect()
    pool.sync(source, target + "-warm", dry_run=True)
    before = count()
    found = pool.sync(source, target, raise_error=True)
    print(count() - before)
    print(*{one.value.digest for one in found.values()})
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "deep").mkdir(parents=True)
    for number in range(100):
        (root / "deep" / f"{number}").write_bytes(os.urandom(20_000))
    (root / "large").write_bytes(os.urandom(4_000_000))
    return root


@pytest.fixture
def workers(start_worker):
    with ThreadPoolExecutor() as starting:
        return list(starting.map(start_worker, "abcd"))


def test_all_get_it_and_it_is_read_once(workers, tree):
    words = [str(tree), "there", *(str(one.port) for one in workers)]
    done = subprocess.run(
        [sys.executable, "-c", COUNT_WHAT_IS_READ, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    count, digest = done.stdout.splitlines()
    # 2 MB of small files, and the large one to name its parts, and to send them.
    assert 10_000_000 < int(count) < 14_000_000  # 40 MB if each read its own
    assert len(digest.split()) == 1
    for one in workers:
        assert differences(tree, one.state_dir.parent / "there") == ""


def test_one_that_is_slow_and_killed_keeps_nobody(workers, tree):
    frail = workers[3]
    with FaultProxy(frail.port) as proxy, mlepool.ClientPool() as pool:
        for one in workers[:3]:
            pool.add("localhost", one.port)
        pool.add("localhost", proxy.port, name="frail", reconnect_timeout=0.2)
        pool.connect()
        proxy.trickle(1_000_000, direction="to_worker")
        jobs = pool.sync(tree, "there", complete=False)
        frail_job = jobs.pop("frail")
        assert [one.wait(20).status for one in jobs.values()] == ["SUCCEEDED"] * 3
        assert frail_job.status == "RUNNING"
        wait_until(lambda: frail_job.progress.bytes > 100_000)
        kill_worker(frail.state_dir)
        frail.process.wait()
        proxy.refuse()
        wait_until(lambda: frail_job.status == "LOST")
        (tree / "new").touch()
        with pytest.raises(ExceptionGroup, match="1 of 4"):
            pool.sync(tree, "there")
    for one in workers[:3]:
        assert differences(tree, one.state_dir.parent / "there") == ""
    assert not (frail.state_dir.parent / "there").exists()


def test_what_failed_is_raised_with_where_once_all_have_ended(worker, tree, tmp_path):
    with mlepool.ClientPool() as pool:
        good = pool.add("localhost", worker.port)
        good.connect()
        pool.add("localhost", 1, name="gone")
        pool.add("localhost", 2, name="closed").close()
        with pytest.raises(ExceptionGroup, match="1 of 2") as caught:
            pool.sync(tree, tmp_path / "there")
        (error,) = caught.value.exceptions
        assert isinstance(error, mlepool.ConnectionLostError)
        assert error.__notes__ == ["on gone"]
        assert differences(tree, tmp_path / "there") == ""
        found = pool.sync(tmp_path / "none", tmp_path / "there", complete=False)
        assert list(found) == [good.name, "gone"]
        assert isinstance(found[good.name].wait().error, FileNotFoundError)
        with pytest.raises(ExceptionGroup, match="2 of 2"):
            pool.sync(tmp_path / "none", tmp_path / "there", raise_error=True)


def test_deadlines_hold_for_each(worker, tree, tmp_path):
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        pool.add("localhost", proxy.port, name="slow")
        pool.connect()
        proxy.trickle(500_000, direction="to_worker")
        with pytest.raises(ExceptionGroup) as caught:
            pool.sync(tree, tmp_path / "there", timeout=1)
        (error,) = caught.value.exceptions
        assert isinstance(error, mlepool.CommandTimeoutError)
        assert isinstance(error.listener, mlepool.Listener)
    assert not (tmp_path / "there").exists()


@in_real_time
async def test_mistyped_keywords_and_empty_pools(tree):
    async with mlepool.AsyncClientPool() as pool:
        assert await pool.sync(tree, "there") == {}
        with pytest.raises(TypeError, match="no keyword 'delet'"):
            await pool.sync(tree, "there", delet=True)
        with pytest.raises(TypeError, match="no keyword 'echo_response'"):
            await pool.sync(tree, "there", echo_response=True)
        with pytest.raises(TypeError, match="exclude must be str"):
            await pool.sync(tree, "there", exclude=[1])  # type: ignore[list-item]
