"""A sync that is killed: each file is an old or a new one, and the next one ends it."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import kill_worker
from mlepool.testing.proxy import FaultProxy
from tests.conftest import RunningWorker, wait_until
from tests.test_sync_whole import differences

pytestmark = pytest.mark.real

FILES = 2000
KILLS = 6  # of the client, and as many of the worker: more take minutes when it is busy

SYNC = """
import sys, mlepool
with mlepool.add("localhost", int(sys.argv[1]), raise_error=True) as conn:
    print("connected", flush=True)
    conn.sync(sys.argv[2], sys.argv[3])
"""


def content(number: int, version: int) -> str:
    return f"file {number}, version {version}\n" * (1 + number % 200)


def write_version(folder: Path, version: int) -> None:
    for number in range(FILES):
        place = folder / f"part{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(content(number, version))


def check_versions(folder: Path, latest: int) -> None:
    """See that there is no file that is not wholly one of its versions."""
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        text = path.read_text()
        version = int(text.partition("version ")[2].partition("\n")[0])
        assert version <= latest
        assert text == content(int(path.stem), version)


class Client:
    """A process that syncs."""

    def __init__(self, port: int, source: Path, target: Path) -> None:
        words = [sys.executable, "-c", SYNC, str(port), str(source), str(target)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "connected\n"

    def kill(self) -> bool:
        """Kill it; False if it had ended."""
        has_ended = self.process.poll() is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return not has_ended

    def end(self) -> None:
        assert self.process.wait(60) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """A source of 2,000 files, and where it is to go.

    In memory where that is to be had: a disk is slow to make files where it has let
    go of many just before, as twenty syncs do.
    """
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mlepool-test-", dir=place) as name:
        source, target = Path(name) / "source", Path(name) / "target"
        write_version(source, 0)
        yield source, target


def test_the_client_is_killed(own_worker, folders):
    source, target = folders
    client, began = Client(own_worker.port, source, target), time.monotonic()
    client.end()
    seconds = time.monotonic() - began
    rng, hits = random.Random(1), 0
    for version in range(1, KILLS + 1):
        write_version(source, version)
        client = Client(own_worker.port, source, target)
        time.sleep(rng.uniform(0, seconds))
        hits += client.kill()
        check_versions(target, version)
    Client(own_worker.port, source, target).end()
    assert differences(source, target) == ""
    assert hits


def test_the_worker_is_killed_and_the_same_sync_goes_on(own_worker, folders, tmp_path):
    source, target = folders
    rng, worker, hits = random.Random(2), own_worker, 0
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", worker.port, raise_error=True)
        conn.connect()
        seconds = conn.sync(source, target).duration
        for version in range(1, KILLS + 1):
            write_version(source, version)
            live = conn.sync(source, target, complete=False)
            time.sleep(rng.uniform(0, seconds))
            hits += not live.done
            kill_worker(worker.state_dir)
            worker.end()
            check_versions(target, version)
            place = f"127.0.0.1:{worker.port}"
            worker = RunningWorker(tmp_path / "own", listen=place)
            try:
                live.wait()
                assert differences(source, target) == ""
            except BaseException:
                worker.end()
                raise
    worker.end()
    assert hits


@pytest.mark.parametrize("what", ["client", "worker"])
def test_what_had_come_is_not_sent_again(start_worker, tmp_path, what):
    size = 20_000_000
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(os.urandom(size))
    worker = start_worker("one")
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(20_000_000, direction="to_worker")
        client = Client(proxy.port, tmp_path / "source", tmp_path / "target")
        wait_until(lambda: proxy.forwarded("to_worker") > size * 0.7)
        if what == "client":
            client.kill()
        else:
            worker.end()  # in order, as for an upgrade
            proxy.upstream = start_worker("one").port
        before = proxy.forwarded("to_worker")
        proxy.resume()
        if what == "client":
            client = Client(proxy.port, tmp_path / "source", tmp_path / "target")
        client.end()
        assert proxy.forwarded("to_worker") - before < size * 0.6
    assert differences(tmp_path / "source", tmp_path / "target") == ""
