"""One folder to many workers: read once, and nobody waits for who is slow or gone."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlepool
from mlepool.client.files.sharing import SharedNear
from mlepool.files.base import Offer, Piece, Problem
from mlepool.files.source import LocalSource
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
    # 2 MB of small files, and the large one to name its parts and to send them.
    assert 6_000_000 <= int(count) < 8_000_000  # 24 MB if each read its own
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
        frail_job = jobs["frail"]
        good = [job for name, job in jobs.items() if name != "frail"]
        assert [one.wait(20).status for one in good] == ["SUCCEEDED"] * 3
        assert frail_job.status == "RUNNING"
        wait_until(lambda: frail_job.progress.bytes > 100_000)
        kill_worker(frail.state_dir)
        frail.process.wait()
        proxy.refuse()
        wait_until(lambda: frail_job.status == "LOST")
        (tree / "new").touch()
        again = pool.sync(tree, "there", connect_timeout=1)
        assert (len(again.succeeded), again.lost) == (3, ["frail"])
    for one in workers[:3]:
        assert differences(tree, one.state_dir.parent / "there") == ""
    assert not (frail.state_dir.parent / "there").exists()


def test_what_failed_is_a_result_and_raised_where_that_is_asked_for(
    worker, tree, tmp_path
):
    with mlepool.ClientPool() as pool:
        good = pool.add("localhost", worker.port)
        pool.add("localhost", 1, name="gone")
        pool.add("localhost", 2, name="closed").close()
        found = pool.sync(tree, tmp_path / "there")
        assert (found.succeeded, found.lost) == ([good.name], ["gone"])
        assert isinstance(found["gone"].error, mlepool.ConnectError)
        assert differences(tree, tmp_path / "there") == ""
        with pytest.raises(ExceptionGroup, match="2 of 2") as caught:
            pool.sync(tmp_path / "none", tmp_path / "there", raise_error=True)
        missing, unreached = caught.value.exceptions
        assert isinstance(missing, FileNotFoundError)
        assert isinstance(unreached, mlepool.ConnectError)
        assert unreached.__notes__ == ["on gone"]


def test_deadlines_hold_for_each(worker, tree, tmp_path):
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        pool.add("localhost", proxy.port, name="slow")
        pool.connect()
        proxy.trickle(500_000, direction="to_worker")
        found = pool.sync(tree, tmp_path / "there", timeout=1)
        assert (found.done, found.succeeded) == (True, [])
        with pytest.raises(ExceptionGroup) as caught:
            found.check()
        (error,) = caught.value.exceptions
        assert isinstance(error, mlepool.CommandTimeoutError)
        assert error.listener is found["slow"]
    assert not (tmp_path / "there").exists()


PUT_AND_COUNT = """
import os, sys, mlepool
command, source, target, port, *names = sys.argv[1:]
def count():
    return int(open("/proc/self/io").readline().split()[1])
with mlepool.ClientPool() as pool:
    for name in names:
        place = os.path.join(target, name)
        conn = pool.add("localhost", int(port), name=name)
        conn.connect()
        conn.mkdirs(place, raise_error=True)
        conn.cd(place, raise_error=True)
    pool.put(source, "there", dry_run=True, raise_error=True)
    before = count()
    if command == "put":
        pool.put(source, "there", raise_error=True)
    else:
        done = pool.run("ls", sync={"source": source, "destination": "there"})
        assert {one.stdout for one in done.check().values()} == {"deep\\nlarge\\n"}
    print(count() - before)
"""


@pytest.mark.parametrize("command", ["put", "run"])
def test_what_is_put_on_all_is_read_once(worker, tree, tmp_path, *, command):
    target = tmp_path / "put"
    words = [command, str(tree), str(target), str(worker.port), *"abcd"]
    done = subprocess.run(
        [sys.executable, "-c", PUT_AND_COUNT, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 14_000_000  # 6 MB, and the large file twice; not 40
    for name in "abcd":
        assert differences(tree, target / name / "there") == ""


def test_what_is_on_the_workers_comes_into_a_folder_for_each(worker, tree, tmp_path):
    with mlepool.ClientPool() as pool:
        for name in ("a", "b"):
            pool.add("localhost", worker.port, name=name)
        pool.sync(tree, tmp_path / "out", pull=True, raise_error=True)
        pool.get(tree / "large", tmp_path / "got", raise_error=True)
        pool.get(tree / "large", tmp_path / "{host}.bin", raise_error=True)
        size = (tree / "large").stat().st_size
        for name in ("a", "b"):
            assert differences(tree, tmp_path / "out" / name) == ""
            assert (tmp_path / "got" / name / "large").stat().st_size == size
            assert (tmp_path / f"{name}.bin").stat().st_size == size


@in_real_time
async def test_mistyped_keywords_and_empty_pools(tree):
    async with mlepool.AsyncClientPool() as pool:
        nothing = await pool.sync(tree, "there")
        assert (len(nothing), nothing.ok, await nothing.next()) == (0, True, None)
        with pytest.raises(TypeError, match="no keyword 'delet'"):
            await pool.sync(tree, "there", delet=True)
        with pytest.raises(TypeError, match="exclude must be str"):
            await pool.sync(tree, "there", exclude=[1])  # type: ignore[list-item]


@in_real_time
async def test_new_small_files_are_read_once_for_all_who_ask_for_the_same(tree):
    near = SharedNear()
    async with near.opened():
        source = near.source(os.fsencode(tree / "deep"), ())
        assert isinstance(source, LocalSource)
        files = list(enumerate((await source.scan()).entries))
        first, second = await asyncio.gather(
            *(source.read_new(files[:50], pack=False) for _ in "ab")
        )
        third = await source.read_new(list(files[:50]), pack=False)
        assert first is second is third
        assert numbers_of(first) == list(range(50))
        others = await source.read_new(files[50:], pack=False)
        assert numbers_of(others) == list(range(50, 100))
        assert await source.read_new(files[:50], pack=True) is not first
        again = [(number + 100, entry) for number, entry in files[:50]]
        found = await source.read_new(again, pack=False)
        assert numbers_of(found) == list(range(100, 150))


def numbers_of(found: list[tuple[Offer, Piece] | Problem]) -> list[int]:
    pairs = [one for one in found if not isinstance(one, Problem)]
    assert all(offer.number == piece.number for offer, piece in pairs)
    return [offer.number for offer, _ in pairs]
