"""Telemetry of a real worker, which is killed while it delivers what it has kept."""

import threading
from pathlib import Path

import msgspec
import pytest

import mlepool
from mlepool.testing.kill import kill_worker
from mlepool.wire.telemetry import Sample
from mlepool.worker.telemetry.samples import SAMPLES_FOLDER, SampleStore
from tests.conftest import wait_until

pytestmark = pytest.mark.real

DAY = 24 * 3600
QUIET = {"MLEPOOL_SAMPLE_INTERVAL": "0"}


def keep_a_day(state: Path) -> list[int]:
    """Keep a day of samples, as a worker would that nobody has asked."""
    store = SampleStore(state / SAMPLES_FOLDER, size=10**8)
    store.open(1.7e9)
    ids = [store.next_id() for _ in range(DAY // 10)]
    for number in ids:
        sample = Sample(number, 1.7e9 + 10 * number, load=(1.0, 2.0, 3.0))
        assert store.append(number, msgspec.msgpack.encode(sample))
    store.close()
    return ids


def test_a_day_is_delivered_once_though_the_worker_is_killed(start_worker, tmp_path):
    ids = keep_a_day(tmp_path / "w/state")
    first = start_worker("w", **QUIET)
    state = first.state_dir
    heard: list[int] = []
    is_killed = threading.Event()

    def take(conn: mlepool.Connection, sample: Sample) -> None:
        heard.append(sample.id)
        if len(heard) == 3000:
            kill_worker(state)
            is_killed.set()

    with mlepool.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
        conn.on("metrics", take)
        assert is_killed.wait(20)
        first.end()
        start_worker("w", **QUIET)
        conn.disconnect()  # it would come back by itself, a little later
        conn.connect()
        wait_until(lambda: len(heard) >= len(ids), 20)
        assert heard == ids
        assert conn.heartbeat()
    with mlepool.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
        conn.on("metrics", take)
        conn.set_metrics(cpu=0.1)
        wait_until(lambda: len(heard) > len(ids))
    assert heard[: len(ids)] == ids
    assert heard[-1] > ids[-1]


def test_a_job_and_its_points_from_the_blocking_face(conn):
    sample = conn.metrics(timeout=10)
    assert sample.memory is not None
    assert sample.memory.percent > 0
    command = "echo '#loss 1 0.5'; read x; echo '#loss 2 0.25'"
    job = conn.run(command, stdin=True, complete=False)
    assert (job.metrics, conn.set_metrics(jobs=0.1).ok) == (None, True)
    wait_until(lambda: job.metrics is not None)
    used = job.metrics
    assert used is not None
    assert (used.id, used.processes) == (job.id, 1)
    wait_until(lambda: job.points.get("loss") == [(1, 0.5)])
    job.send_input("\n")
    assert job.wait().points["loss"] == [(1, 0.5), (2, 0.25)]
    conn.set_metrics(jobs=10)
