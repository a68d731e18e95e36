"""A worker on a busy host, one without memory, one that is stopped, one that rereads.

What takes minutes is tested in jumping time: tests/test_peer.py.
"""

import contextlib
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool
from tests.conftest import RunningWorker, wait_until
from tests.needs import lacking, need_root

pytestmark = pytest.mark.real

BUSY = 1.5  # seconds
RECLAIMS = 8
# In the group, with a copy of the interpreter: its pages are nobody else's then.
ENTER = 'echo $$ > "$0/cgroup.procs"; cp "$1" "$2/"; shift 3; exec "$@"'


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[RunningWorker]:
    folder = tmp_path_factory.mktemp("alive")
    (folder / "state").mkdir()
    worker = RunningWorker(folder)
    yield worker
    worker.end()


@pytest.fixture
def conn(running):
    lost: list[object] = []
    with mlepool.ClientPool() as pool, pool.add("localhost", running.port) as conn:
        conn.on("reconnecting", lost.append)
        yield conn
        assert not lost


def test_a_busy_host_is_not_taken_for_dead(conn):
    loop = ["timeout", str(BUSY), "sh", "-c", "while :; do :; done"]
    began = time.monotonic()
    crowd = [subprocess.Popen(loop) for _ in range(4 * (os.cpu_count() or 1))]
    beats = 0
    while time.monotonic() < began + BUSY:
        assert conn.heartbeat(timeout=10)
        assert conn.run("true", timeout=10).ok
        beats += 1
    assert conn.rtt is not None
    assert 0 < conn.rtt < 10
    assert beats >= 2
    for one in crowd:
        one.wait(10)


@pytest.fixture
def reclaim() -> Iterator[Path]:
    """A control group's file which, when it is written to, takes away its memory."""
    need_root()
    name = f"mlepool-test-pressure-{os.getpid()}"
    for root, file in (("memory", "memory.force_empty"), ("", "memory.reclaim")):
        group = Path("/sys/fs/cgroup") / root / name
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / file).exists():
                yield group / file
                wait_until(lambda group=group: _is_removed(group))
                return
            group.rmdir()
    lacking("a control group whose memory can be reclaimed")


def _is_removed(group: Path) -> bool:
    with contextlib.suppress(OSError):  # somebody is in it
        group.rmdir()
    return not group.exists()


def _faults(pid: int) -> int:
    """Give how often a process had to wait for the disk to have a page of its own."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[9])


def test_a_worker_whose_memory_is_taken_away_is_not_taken_for_dead(
    tmp_path, reclaim, start_worker
):
    library = Path(
        sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    )
    if library.suffix == ".a" or not library.exists():
        lacking("an interpreter in a shared library")
    within = ["sh", "-c", ENTER, str(reclaim.parent), str(library), str(tmp_path), "--"]
    worker = start_worker("poor", within=within, LD_LIBRARY_PATH=str(tmp_path))
    lost: list[object] = []
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        conn.on("reconnecting", lost.append)
        counting = "i=0; while echo $i; do i=$((i+1)); sleep 0.02; done"
        live = conn.run(counting, complete=False)
        before = _faults(worker.process.pid)
        for number in range(RECLAIMS):
            with contextlib.suppress(OSError):  # not all could be taken
                reclaim.write_text("64M" if reclaim.name == "memory.reclaim" else "0")
            assert conn.heartbeat(timeout=10)
            assert conn.run("true", timeout=10).ok
            assert live.next() == str(number)
        if _faults(worker.process.pid) - before < RECLAIMS:
            lacking("temporary files on a disk: pages of others can't be taken away")
        assert not lost


def test_a_worker_that_is_stopped_for_a_while_is_not_taken_for_dead(running, conn):
    assert conn.heartbeat()
    before = conn.rtt
    pid = running.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not conn.heartbeat(timeout=1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert conn.heartbeat(timeout=10)
    assert conn.state["connection"] == "connected"
    wait_until(lambda: conn.rtt != before)
    assert conn.run("true").ok


def test_the_round_trip_is_measured_without_being_asked_for(conn):
    wait_until(lambda: conn.rtt is not None, limit=5)
    assert conn.rtt < 5
    conn.disconnect()
    assert conn.rtt is None
    conn.connect()


def test_sighup_has_the_configuration_read_again(running, conn):
    file = running.state_dir / "config.toml"
    file.write_text('[labels]\nzone = "b"\n')
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: conn.state["labels"] == {"zone": "b"})
    file.write_text('[labels]\nzone = "c"\n[labels]\n')
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "config_error" in conn.state)
    assert conn.state["labels"] == {"zone": "b"}
    assert f"the settings stay as they were: {file}:3: " in running.log
    file.write_text('listen = ":1"\n')
    wait_until(lambda: "config_error" not in conn.state)  # by itself, in two seconds
    wait_until(lambda: conn.state["labels"] == {})
    assert running.process.poll() is None
