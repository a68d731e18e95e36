"""Syncs with real workers: both ways, what stays, what is told, and what goes wrong."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.testing.kill import kill_worker
from mlepool.testing.proxy import Cut, Direction, FaultProxy
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of each."""
    root = tmp_path / "source"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o700)
    (root / "a.txt").write_text("one")
    (root / "none").touch()
    (root / "deep" / "er" / "large").write_bytes(os.urandom(3_000_000))
    (root / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (root / "deep" / "run.sh").chmod(0o755)
    (root / "link").symlink_to("a.txt")
    (root / "to\nnowhere").symlink_to("/nonexistent")
    return root


@pytest.fixture
def conn(worker: RunningWorker) -> Iterator[mlepool.Connection]:
    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port, raise_error=True) as conn,
    ):
        yield conn


def differences(one: Path, other: Path) -> str:
    """Compare content, modes, times and links of what is in two trees."""
    words = ["rsync", "-rlptn", "-i", "-c", "--delete", f"{one}/", f"{other}/"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return text.removeprefix(".d..t...... ./\n")


def listing(root: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        found.append((str(path), stat.st_ino, stat.st_mtime_ns))
    return found


# -- what it does


def test_a_tree_goes_there_as_it_is(conn, tree, tmp_path):
    target = tmp_path / "target"
    job = conn.sync(tree, target)
    assert differences(tree, target) == ""
    assert sorted(job) == [
        "+ 'to\\nnowhere'",
        "+ a.txt",
        "+ deep",
        "+ deep/er",
        "+ deep/er/large",
        "+ deep/run.sh",
        "+ empty",
        "+ link",
        "+ none",
    ]
    value = job.value
    assert (value.sent, value.skipped, value.deleted) == (4, 0, 0)
    assert value.bytes_total == 3_000_013
    assert (job.status, job.progress.bytes) == ("SUCCEEDED", 3_000_013)


def test_it_comes_back_as_it_is(conn, tree, tmp_path):
    conn.sync(f"{tree}/", tmp_path / "there")
    job = conn.sync(tmp_path / "there", tmp_path / "back", pull=True)
    assert differences(tree, tmp_path / "back") == ""
    assert job.value.sent == 4


def test_an_unchanged_tree_is_left_alone_and_keeps_its_name(conn, tree, tmp_path):
    first = conn.sync(tree, tmp_path / "target")
    before = listing(tmp_path / "target")
    again = conn.sync(tree, tmp_path / "target")
    assert listing(tmp_path / "target") == before
    assert list(again) == []
    assert (again.value.sent, again.value.skipped, again.value.bytes_sent) == (0, 6, 0)
    assert again.value.digest == first.value.digest != ""


def test_a_link_of_another_time_alone_gets_it_once(conn, tree, tmp_path):
    (tree / "deep" / "link").symlink_to("nowhere")
    first = conn.sync(tree, tmp_path / "target")
    for name in ("link", "deep/link"):
        os.utime(tree / name, ns=(5, 5), follow_symlinks=False)
    again = conn.sync(tree, tmp_path / "target")
    assert sorted(again) == ["~ deep/link", "~ link"]
    assert (again.value.sent, again.value.digest) == (0, first.value.digest)
    assert differences(tree, tmp_path / "target") == ""
    before = listing(tmp_path / "target")
    assert list(conn.sync(tree, tmp_path / "target")) == []
    assert listing(tmp_path / "target") == before


def test_an_empty_folder_makes_an_empty_folder(conn, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert conn.sync(tmp_path / "nothing", tmp_path / "target").ok
    assert list((tmp_path / "target").iterdir()) == []


def test_only_what_changed_is_sent(conn, tree, tmp_path):
    conn.sync(tree, tmp_path / "target")
    large = tree / "deep" / "er" / "large"
    data = large.read_bytes()
    large.write_bytes(data[:1_000_000] + b"inserted" + data[1_000_000:])
    (tree / "deep" / "run.sh").chmod(0o700)
    job = conn.sync(tree, tmp_path / "target")
    assert differences(tree, tmp_path / "target") == ""
    assert sorted(job) == ["~ deep/er/large", "~ deep/run.sh"]
    assert 0 < job.value.bytes_sent < 1_600_000


def test_what_was_here_before_is_not_sent_again(conn, tree, tmp_path):
    conn.sync(tree, tmp_path / "one")
    (tree / "deep" / "er" / "large").rename(tree / "renamed")
    job = conn.sync(tree, tmp_path / "other")
    assert differences(tree, tmp_path / "other") == ""
    assert job.value.bytes_sent < 100_000


def test_what_is_not_in_the_source_stays_unless_it_is_to_go(conn, tree, tmp_path):
    target = tmp_path / "target"
    conn.sync(tree, target)
    (target / "own").write_text("mine")
    conn.sync(tree, target)
    assert (target / "own").read_text() == "mine"
    job = conn.sync(tree, target, delete=True)
    assert list(job) == ["- own"]
    assert job.value.deleted == 1
    assert differences(tree, target) == ""


def test_what_is_deleted_is_in_the_trash(own_worker, tree, tmp_path):
    target = tmp_path / "target"
    with mlepool.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        conn.sync(tree, target)
        (target / "own").write_text("mine, and not to be lost")
        conn.sync(tree, target, delete=True)
    texts = [
        path.read_text()
        for path in tmp_path.rglob("own*")
        if path.is_file() and path.stat().st_size == 24
    ]
    assert texts == ["mine, and not to be lost"]


def test_what_is_ignored_is_neither_sent_nor_deleted(conn, tree, tmp_path):
    target = tmp_path / "target"
    (tree / ".gitignore").write_text("*.pyc\n")
    (tree / "a.pyc").touch()
    (tree / "notes.log").touch()
    conn.sync(tree, target, exclude="*.log")
    assert not (target / "a.pyc").exists()
    assert not (target / "notes.log").exists()
    (target / "b.pyc").touch()
    job = conn.sync(tree, target, delete=True, exclude=["*.log"])
    assert list(job) == []
    assert (target / "b.pyc").exists()
    conn.sync(tree, target, ignore_files=())
    assert (target / "a.pyc").exists()


def test_a_dry_run_tells_what_would_be_done(conn, tree, tmp_path):
    target = tmp_path / "target"
    conn.sync(tree, target)
    (tree / "new").write_text("new")
    (tree / "a.txt").write_text("another")
    (tree / "none").unlink()
    before = listing(tmp_path)
    job = conn.sync(tree, target, delete=True, dry_run=True)
    assert sorted(job) == ["+ new", "- none", "~ a.txt"]
    assert listing(tmp_path) == before
    assert (job.value.sent, job.value.deleted) == (2, 1)
    assert conn.sync(tree, tmp_path / "nowhere", dry_run=True).value.sent == 4
    assert not (tmp_path / "nowhere").exists()


def test_a_checksum_finds_what_size_and_time_hide(conn, tree, tmp_path):
    conn.sync(tree, tmp_path / "target")
    path = tmp_path / "target" / "a.txt"
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    conn.sync(tree, tmp_path / "target")
    assert path.read_text() == "two"
    job = conn.sync(tree, tmp_path / "target", checksum=True)
    assert path.read_text() == "one"
    assert job.value.bytes_sent < 100


def test_relative_places_count_from_the_workers_folder(own_worker, tree):
    with mlepool.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        assert conn.sync(str(tree), "exp/one").ok
    assert differences(tree, own_worker.state_dir.parent / "exp" / "one") == ""


def test_sync_is_among_what_a_connection_offers(conn):
    assert "sync" in conn.server_methods()
    assert "sync" in dir(conn)
    assert not [one for one in conn.server_methods() if one.startswith("_")]
    rows = {name: (signature, text) for name, signature, _, text in conn.commands}
    assert rows["sync"][0].startswith("(source:")
    assert rows["sync"][1].startswith("Make a folder on the worker like one here")


def test_messages_are_printed_where_that_is_asked_for(conn, tree, capsys):
    job = conn.sync(tree, tree.parent / "target", echo_response=True)
    assert capsys.readouterr().out.splitlines() == list(job)


# -- what it refuses


def test_an_empty_source_is_halted(conn, tree, tmp_path):
    conn.sync(tree, tmp_path / "target")
    (tmp_path / "nothing").mkdir()
    before = listing(tmp_path / "target")
    with pytest.raises(mlepool.SyncHaltedError, match="the source is empty"):
        conn.sync(tmp_path / "nothing", tmp_path / "target", delete=True)
    assert listing(tmp_path / "target") == before
    conn.sync(tmp_path / "nothing", tmp_path / "target", delete=True, force=True)
    assert listing(tmp_path / "target") == []


def test_a_sync_that_deletes_most_is_halted(conn, tree, tmp_path):
    for number in range(20):
        (tree / f"f{number}").touch()
    conn.sync(tree, tmp_path / "target")
    for number in range(20):
        (tree / f"f{number}").unlink()
    with pytest.raises(mlepool.SyncHaltedError, match="20 of the target's 29"):
        conn.sync(tree, tmp_path / "target", delete=True)
    assert conn.sync(tree, tmp_path / "target", delete=True, force=True).ok


def test_a_missing_source_is_an_error_on_either_side(conn, tmp_path):
    with pytest.raises(FileNotFoundError):
        conn.sync(tmp_path / "nothing", tmp_path / "target")
    with pytest.raises(FileNotFoundError):
        conn.sync(tmp_path / "nothing", tmp_path / "target", pull=True)
    assert not (tmp_path / "target").exists()


def test_a_file_is_no_tree(conn, tree, tmp_path):
    with pytest.raises(NotADirectoryError):
        conn.sync(tree / "a.txt", tmp_path / "target")
    with pytest.raises(NotADirectoryError):
        conn.sync(tree, tree / "a.txt")
    assert (tree / "a.txt").read_text() == "one"


def test_special_files_are_named_and_the_rest_is_synced(conn, tree, tmp_path):
    os.mkfifo(tree / "pipe")
    with pytest.raises(mlepool.SyncIncompleteError, match="'pipe'") as caught:
        conn.sync(tree, tmp_path / "target")
    assert [one.path for one in caught.value.summary.problems] == ["pipe"]
    (tree / "pipe").unlink()
    os.utime(tree, ns=(1, 1))
    os.utime(tmp_path / "target", ns=(1, 1))
    assert differences(tree, tmp_path / "target") == ""


def test_more_problems_than_fit_in_a_frame_are_counted(conn, tree, tmp_path):
    folder = tree
    for _ in range(4):
        folder = folder / ("x" * 250)
        folder.mkdir()
    for number in range(200):
        os.mkfifo(folder / f"pipe{number}")
    with pytest.raises(mlepool.SyncIncompleteError) as caught:
        conn.sync(tree, tmp_path / "target", pull=True)
    problems = caught.value.summary.problems
    assert 50 < len(problems) < 200
    assert problems[-1].text == f"and {201 - len(problems)} more"


def test_mistyped_keywords_are_errors_at_once(conn, tree):
    with pytest.raises(TypeError, match="no keyword 'delet'"):
        conn.sync(tree, "x", delet=True)
    with pytest.raises(TypeError, match="exclude must be str"):
        conn.sync(tree, "x", exclude=[1])
    with pytest.raises(ValueError, match="timeout"):
        conn.sync(tree, "x", timeout=-1)


def test_roots_bound_what_can_be_synced(start_worker, tree, tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    (tmp_path / "data2").mkdir()
    (inside / "out").symlink_to(tmp_path / "data2")
    state = tmp_path / "limited" / "state"
    state.mkdir(parents=True)
    (state / "config.toml").write_text(f"roots = [{str(inside)!r}]\n")
    worker = start_worker("limited")
    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port, raise_error=True) as conn,
    ):
        conn.sync(tree, inside / "exp")
        before = listing(tmp_path / "data2")
        for place in (tmp_path / "data2", inside / "out" / "x", inside / ".." / "x"):
            with pytest.raises(PermissionError, match="not inside the folders"):
                conn.sync(tree, place)
            with pytest.raises(PermissionError, match="not inside the folders"):
                conn.sync(place, tmp_path / "mine", pull=True)
        assert listing(tmp_path / "data2") == before
    assert differences(tree, inside / "exp") == ""


# -- links and workers that break


def many_files(root: Path, count: int) -> None:
    for number in range(count):
        folder = root / f"part{number % 10}"
        folder.mkdir(exist_ok=True, parents=True)
        (folder / str(number)).write_bytes(os.urandom(2000 + number))


@pytest.mark.parametrize("pull", [False, True])
def test_links_that_are_cut_all_the_time_lose_nothing(worker, tree, pull):
    many_files(tree, 600)
    sizes = (200_000, 31_234, 500_000, 65_536, 400_000, 150_000)
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        direction: Direction = "to_client" if pull else "to_worker"
        proxy.schedule(Cut(size, direction) for size in sizes)
        with pool.add("localhost", proxy.port, raise_error=True) as conn:
            conn.sync(tree, tree.parent / "there", pull=pull)
        assert proxy.cuts == len(sizes)
    assert differences(tree, tree.parent / "there") == ""


def test_a_worker_that_is_killed_in_the_middle_is_begun_anew_with(
    start_worker, tree, tmp_path
):
    (tree / "big").write_bytes(os.urandom(40_000_000))
    worker = start_worker("frail")
    target = tmp_path / "there"
    with (
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port, raise_error=True) as conn,
    ):
        proxy.trickle(20_000_000, direction="to_worker")
        job = conn.sync(tree, target, complete=False)
        wait_until(lambda: job.progress.bytes > 10_000_000)
        kill_worker(worker.state_dir)
        worker.process.wait()
        assert not target.exists()
        proxy.resume()
        proxy.upstream = start_worker("frail").port
        job.wait()
    assert differences(tree, target) == ""
    assert job.status == "SUCCEEDED"


def test_two_syncs_into_one_tree_come_one_after_the_other(worker, tree, tmp_path):
    many_files(tree, 300)
    other = tmp_path / "other"
    other.mkdir()
    many_files(other, 300)
    target = tmp_path / "target"
    with mlepool.ClientPool() as pool:
        conns = [pool.add("localhost", worker.port, name=str(one)) for one in range(2)]
        pool.connect()
        jobs = [
            conn.sync(source, target, delete=True, complete=False)
            for conn, source in zip(conns, (tree, other), strict=True)
        ]
        for job in jobs:
            job.wait()
    assert {job.status for job in jobs} == {"SUCCEEDED"}
    assert "" in (differences(tree, target), differences(other, target))


def test_who_has_the_tree_is_told_to_who_waits(worker, tree, tmp_path):
    (tree / "big").write_bytes(os.urandom(20_000_000))
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        slow = pool.add("localhost", proxy.port)
        fast = pool.add("localhost", worker.port, name="fast")
        pool.connect()
        proxy.trickle(2_000_000, direction="to_worker")
        first = slow.sync(tree, tmp_path / "target", complete=False)
        wait_until(lambda: first.progress.bytes > 0)
        second = fast.sync(tree, tmp_path / "target", complete=False)
        wait_until(lambda: f"pid {os.getpid()}" in second.progress.waiting)
        proxy.resume()
        assert first.wait().ok
        assert second.wait().ok
        assert second.progress.waiting == ""


def test_a_tree_is_free_soon_after_its_client_has_died(worker, tree, tmp_path):
    (tree / "big").write_bytes(os.urandom(20_000_000))
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        dead = pool.add("localhost", proxy.port, reconnect_timeout=0)
        alive = pool.add("localhost", worker.port, name="alive")
        pool.connect()
        proxy.trickle(1_000_000, direction="to_worker")
        job = dead.sync(tree, tmp_path / "target", complete=False)
        wait_until(lambda: job.progress.bytes > 0)
        proxy.reset()
        with pytest.raises(mlepool.ConnectionLostError):
            job.wait()
        assert job.status == "LOST"
        began = time.monotonic()
        assert alive.sync(tree, tmp_path / "target").ok
        assert time.monotonic() - began < 15
    assert differences(tree, tmp_path / "target") == ""


# -- stops, deadlines, what is told


@pytest.fixture
def slow(own_worker: RunningWorker, tree: Path) -> Iterator[mlepool.Connection]:
    """A connection that takes seconds for the tree."""
    (tree / "big").write_bytes(os.urandom(20_000_000))
    with (
        FaultProxy(own_worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port) as conn,
    ):
        proxy.trickle(2_000_000, direction="to_worker")
        yield conn


def test_a_file_that_changes_while_it_is_sent_comes_as_it_is_then(slow, tree):
    job = slow.sync(tree, tree.parent / "target", complete=False)
    wait_until(lambda: job.progress.bytes > 100_000)
    (tree / "big").write_bytes(b"now it is short")
    assert job.wait().ok
    assert job.value.problems == ()
    assert differences(tree, tree.parent / "target") == ""


def test_a_stopped_sync_leaves_the_tree_as_it_was(slow, tree, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "a.txt").write_text("before")
    before = listing(target)
    job = slow.sync(tree, target, complete=False)
    wait_until(lambda: job.progress.bytes > 100_000)
    assert job.stop().status == "STOPPED"
    assert job.status == "STOPPED"
    assert listing(target) == before
    wait_until(lambda: slow.state["sync_status"] == "error")


def test_a_sync_that_takes_too_long_is_stopped(slow, tree, tmp_path):
    with pytest.raises(mlepool.CommandTimeoutError, match="it was stopped"):
        slow.sync(tree, tmp_path / "target", timeout=0.5)
    assert not (tmp_path / "target").exists()


SYNC = """
import sys, mlepool
conn = mlepool.add("localhost", int(sys.argv[1]))
conn.connect()
try:
    print("connected", flush=True)
    conn.sync(sys.argv[2], sys.argv[3], echo_response=sys.argv[4] == "echo")
except KeyboardInterrupt:
    conn.close()
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("echo", ["echo", "quiet"])
def test_ctrl_c_leaves_the_tree_as_it_was(worker, tree, echo):
    (tree / "big").write_bytes(os.urandom(20_000_000))
    target = tree.parent / "target"
    words = [sys.executable, "-c", SYNC]
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(2_000_000, direction="to_worker")
        words += [str(proxy.port), str(tree), str(target), echo]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "connected\n"
            sent = proxy.forwarded("to_worker")
            wait_until(lambda: proxy.forwarded("to_worker") > sent + 500_000)
            client.send_signal(signal.SIGINT)
            assert client.stdout.read().splitlines()[-1] == "interrupted"
        assert client.returncode == 0
    assert not target.exists()


def test_closing_the_connection_stops_its_syncs(slow, tree, tmp_path):
    job = slow.sync(tree, tmp_path / "target", complete=False)
    wait_until(lambda: job.progress.bytes > 100_000)
    slow.close()
    assert job.status == "STOPPED"
    assert not (tmp_path / "target").exists()


def test_closing_the_listener_does_not(conn, tree, tmp_path):
    job = conn.sync(tree, tmp_path / "target", complete=False)
    job.close()
    wait_until(lambda: job.status == "SUCCEEDED")
    assert differences(tree, tmp_path / "target") == ""


def test_small_calls_get_through_while_a_tree_is_sent(slow, tree, tmp_path):
    job = slow.sync(tree, tmp_path / "target", complete=False)
    wait_until(lambda: job.progress.bytes > 100_000)
    assert slow.heartbeat(timeout=5)
    assert slow.get_time(timeout=5).ok
    assert job.status == "RUNNING"
    job.stop()


def test_clients_are_told_how_the_workers_syncs_stand(own_worker, tree):
    told: list[str] = []

    def note(_: object, data: dict[str, Any]) -> None:
        assert data["state"].items() >= data["changed"].items()
        if "sync_status" in data["changed"]:
            told.append(data["changed"]["sync_status"])

    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", own_worker.port, raise_error=True) as conn,
        pool.add("localhost", own_worker.port, name="watcher") as watcher,
    ):
        watcher.on("state-change", note)
        conn.sync(tree, tree.parent / "target")
        wait_until(lambda: len(told) >= 2)
        assert told == ["syncing", "success"]
        assert watcher.state["sync_status"] == "success"
        with pytest.raises(NotADirectoryError):
            conn.sync(tree, tree / "a.txt")
        wait_until(lambda: len(told) >= 4)
    assert told[2:] == ["syncing", "error"]


def test_the_async_face_does_the_same(worker, tree, tmp_path):
    async def sync() -> list[str]:
        pool = mlepool.AsyncClientPool()
        async with pool, pool.add("localhost", worker.port) as conn:
            job = await conn.sync(tree, tmp_path / "target", complete=False)
            lines = [line async for line in job]
            assert job.value.sent == 4
            return lines

    assert len(asyncio.run(sync())) == 9
    assert differences(tree, tmp_path / "target") == ""
