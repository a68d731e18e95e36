"""Jobs that write very much: real ones, drained in the other thread."""

import os
import sys
import threading
from pathlib import Path

import pytest

from mlepool.config import Limits
from mlepool.supervisor.floods import Floods
from mlepool.supervisor.job import Job
from mlepool.supervisor.journal import Journal
from mlepool.supervisor.messages import Spawn, Stop, Stopped
from mlepool.wire.records import RecordParser
from tests.conftest import wait_until

pytestmark = pytest.mark.real

MIB = 1024 * 1024
LINES = """
import os, sys, time
for part in range(3):
    for number in range(part * 60, part * 60 + 60):
        os.write(1, b"%07d\\n" % number * 8000)
        os.write(2, b"%07d\\n" % number * 1000)
    time.sleep(0.1)
"""


def lines(count: int) -> bytes:
    return b"".join(b"%07d\n" % number * count for number in range(180))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_no_byte_is_lost_of_floods_with_pauses_side_by_side(line, supervisor):
    before = threads(supervisor.process.pid)
    for name in ("one", "two"):
        line.send(
            Spawn(name, (sys.executable.encode(), b"-c", LINES.encode()), "", "/", {})
        )
    outcomes = [line.outcome(name) for name in ("one", "two")]
    assert threads(supervisor.process.pid) == before + 1
    for name, outcome in zip(("one", "two"), outcomes, strict=True):
        assert (outcome.exit_code, outcome.stdout) == (0, 180 * 64000)
        assert outcome.stderr == 180 * 8000
        output = supervisor.output(name)
        assert output["stdout"] == lines(8000)
        assert output["stderr"] == lines(1000)


def test_a_flood_is_stopped_and_others_end_beside_it(line, supervisor):
    line.spawn("flood", "exec cat /dev/zero")
    wait_until(lambda: size(supervisor, "flood") > 8 * MIB)
    line.spawn("other", "echo on")
    assert line.outcome("other").stdout == 3
    line.send(Stop("flood"))
    assert line.wait_for(Stopped, None).report.complete
    outcome = line.outcome("flood")
    assert outcome.status == "STOPPED"
    assert outcome.stdout == len(supervisor.output("flood")["stdout"])


def size(supervisor, name: str) -> int:
    path = Path(supervisor.folder, "jobs", f"{name}.journal")
    return path.stat().st_size if path.exists() else 0


@pytest.fixture
def cat(tmp_path):
    """A job that repeats its input."""
    order = Spawn("cat", (b"/bin/cat",), "cat", "/", {}, stdin=True)
    job = Job(order, tmp_path, {}, limits=Limits(), disk_size=1 << 40)
    yield job
    job.stdin.close()
    job.abandon_pipes()
    os.waitpid(job.pid, 0)


def stdout(folder: Path, job: Job) -> bytes:
    journal = Journal(folder, job.id)
    data = RecordParser().feed(journal.read(0, job.recorder.position))
    journal.close()
    return b"".join(one.data for one in data)


def test_a_job_that_is_recalled_is_left_alone(cat, tmp_path):
    woken = threading.Event()
    floods = Floods(woken.set)
    floods.take(cat)
    cat.stdin.feed(0, b"first", end=False, writer="")
    wait_until(lambda: cat.recorder.position > 0)
    if not floods.recall(cat):
        pytest.fail("it was here")
    assert (floods.jobs(), floods.returned()) == ([], [])
    assert not floods.recall(cat)
    position = cat.recorder.position
    cat.stdin.feed(5, b"second", end=False, writer="")
    wait_until(lambda: cat.drain(next(iter(cat.pipes))))
    assert cat.recorder.position > position
    assert stdout(tmp_path, cat) == b"firstsecond"


def test_a_job_that_is_quiet_or_at_its_end_is_given_back_once(cat, tmp_path):
    woken = threading.Event()
    floods = Floods(woken.set)
    for end in (False, True):
        floods.take(cat)
        if end:
            cat.stdin.feed(0, b"last", end=True, writer="")
        assert woken.wait(10)
        woken.clear()
        assert floods.returned() == [cat]
        assert (floods.jobs(), floods.returned()) == ([], [])
    assert len(cat.pipes) == 2  # whoever gets it back closes them
    cat.abandon_pipes()
    assert stdout(tmp_path, cat) == b"last"
