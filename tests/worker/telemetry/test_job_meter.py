"""What jobs use, by real processes: all of the tree, and what has ended in it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.supervisor.processes import stamp_of
from mlepool.wire.telemetry import JobSample
from mlepool.worker.telemetry.job_meter import JobMeter
from tests.conftest import wait_until

pytestmark = pytest.mark.real

STATE = Path("/state")
BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"


class Tree:
    """A job's processes, in a session of their own."""

    def __init__(self, script: str, job_id: str) -> None:
        self.id = job_id
        self.process = subprocess.Popen(
            ["sh", "-c", script],
            env={**os.environb, **stamp_of(job_id, STATE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def reads(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def tree(request) -> Iterator[Tree]:
    tree = Tree(request.param, "job-1")
    yield tree
    tree.end()


def measure(meter: JobMeter, tree: Tree) -> JobSample:
    (sample,) = meter.measure({tree.id: tree.process.pid}, time.monotonic())
    return sample


@pytest.mark.parametrize("tree", [f"sh -c '{BURN}'; echo done; read x"], indirect=True)
def test_what_a_child_has_used_that_ended_is_counted_once(tree):
    meter = JobMeter(STATE)
    first = measure(meter, tree)
    assert tree.reads() == "done"
    second = measure(meter, tree)
    assert second.processes == 1
    assert second.cpu_time > max(0.01, first.cpu_time)
    third = measure(meter, tree)
    assert third.cpu_time == second.cpu_time
    assert third.cpu_percent == 0


@pytest.mark.parametrize("tree", ["sleep 60 & echo up; wait"], indirect=True)
def test_jobs_are_told_apart_and_others_are_nobodys(tree):
    assert tree.reads() == "up"
    other = Tree("echo up; read x", "job-2")
    other.reads()
    meter = JobMeter(STATE)
    jobs = {tree.id: tree.process.pid, other.id: other.process.pid}
    counts = {one.id: one.processes for one in meter.measure(jobs, time.monotonic())}
    assert counts == {"job-1": 2, "job-2": 1}
    other.end()
    (left,) = meter.measure(jobs, time.monotonic())
    assert left.id == "job-1"
    assert meter.measure({}, time.monotonic()) == ()


@pytest.mark.parametrize(
    "tree", ["setsid sh -c 'echo $$; sleep 60' & read x"], indirect=True
)
def test_a_daemon_is_found_by_its_stamp(tree):
    daemon = int(tree.reads())
    try:
        tree.end()
        meter = JobMeter(STATE)
        wait_until(lambda: measure(meter, tree).processes == 2)  # with its sleep
    finally:
        os.killpg(daemon, signal.SIGKILL)
