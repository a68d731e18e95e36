"""A worker on a busy host, one that is stopped for a while, one that is told to reread.

What takes minutes is tested in jumping time: tests/test_peer.py.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

import mlepool
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real

BUSY = 1.5  # seconds


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
    assert conn.state["labels"] == {}
    assert running.process.poll() is None
