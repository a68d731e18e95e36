"""Ends that are safe from a loss of power before they are told, or soon after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from mlepool.config import Limits
from mlepool.supervisor.messages import (
    Finish,
    Greet,
    Greeting,
    JobEnded,
    Stop,
    Stopped,
)
from tests.conftest import wait_until
from tests.supervisor.conftest import Line, RunningSupervisor

pytestmark = pytest.mark.real

# A disk that is slow as long as we like: fsync(2) waits for a file, and says for what
# it was. It does its work all the same.
SLOW_DISK = """
import os, pathlib, time
folder, real = pathlib.Path({folder!r}), os.fsync
def fsync(fd):
    until = time.monotonic() + 20
    while not (folder / "go").exists() and time.monotonic() < until:
        time.sleep(0.005)
    real(fd)
    with open(folder / "synced", "a") as file:
        print(os.path.basename(os.readlink(f"/proc/self/fd/{{fd}}")), file=file)
os.fsync = fsync
"""

# A clock that stands still, but while somebody waits on purpose, or for a disk that
# takes 90 ms for the first file: then it jumps. How busy the machine is does not count.
STANDING_CLOCK = """
import os, pathlib, threading, time
folder, fsync, pwritev = pathlib.Path({folder!r}), os.fsync, os.pwritev
wait, now = threading.Condition.wait, 1000.0
def jump(seconds):
    global now
    now += seconds
def wait_or_jump(self, timeout=None):
    if timeout is None:
        return wait(self)
    jump(timeout)
    return False
def note(what, fd):
    name = os.path.basename(os.readlink(f"/proc/self/fd/{{fd}}"))
    with open(folder / "notes", "a") as file:
        print(what, name, now, file=file)
    return name
def slow_fsync(fd):
    if note("synced", fd) == "first.journal":
        while not (folder / "go").exists():
            time.sleep(0.005)
        jump(0.09)
    fsync(fd)
def noted_pwritev(fd, *rest):
    note("written", fd)
    return pwritev(fd, *rest)
os.fsync, os.pwritev = slow_fsync, noted_pwritev
threading.Condition.wait, time.monotonic = wait_or_jump, lambda: now
threading._time = time.monotonic
"""


class SlowDisk:
    """The supervisor on it, and what was made safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        before = SLOW_DISK.format(folder=str(folder))
        self.supervisor = RunningSupervisor(folder / "state", before)

    def connect(self, durability: Literal["process", "power"]) -> Line:
        line = self.supervisor.connect()
        line.send(Greet(limits=Limits(durability=durability)))
        line.wait_for(Greeting)
        return line

    def go(self) -> None:
        (self._folder / "go").touch()

    def synced(self) -> list[str]:
        path = self._folder / "synced"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def disk(tmp_path) -> Iterator[SlowDisk]:
    disk = SlowDisk(tmp_path)
    yield disk
    disk.supervisor.end()


def heard(line: Line, kind: type) -> bool:
    """Tell if a message has come before the answer to what is asked now."""
    line.send(Stop("nobody"))
    line.wait_for(Stopped, "nobody")
    return any(isinstance(one, kind) for one in line._others)


def test_with_power_an_end_is_told_once_it_is_on_the_disk(disk):
    line = disk.connect("power")
    line.spawn("job", "exit 3")
    wait_until(lambda: disk.supervisor.outcome("job") is not None)
    assert not heard(line, JobEnded)
    assert disk.synced() == []
    disk.go()
    assert line.outcome("job").exit_code == 3
    assert disk.synced()[:2] == ["job.journal", "jobs"]


def test_nor_is_the_next_worker_told_before(disk):
    line = disk.connect("power")
    line.spawn("job", "exit 3")
    wait_until(lambda: disk.supervisor.outcome("job") is not None)
    new = disk.supervisor.connect()
    new.send(Greet(limits=Limits(durability="power")))
    (info,) = new.wait_for(Greeting).jobs
    assert (info.id, info.outcome) == ("job", None)
    disk.go()
    assert new.outcome("job").exit_code == 3


def test_else_it_is_told_at_once_and_safe_soon_after(disk):
    line = disk.connect("process")
    for number in range(3):
        line.spawn(f"job-{number}", "exit 3")
        assert line.outcome(f"job-{number}").exit_code == 3
    assert disk.synced() == []
    disk.go()
    wait_until(lambda: len(disk.synced()) >= 4)
    assert {f"job-{number}.journal" for number in range(3)} <= set(disk.synced())


def test_a_supervisor_that_ends_makes_the_last_ends_safe(disk):
    line = disk.connect("process")
    line.spawn("job", "exit 3")
    line.outcome("job")
    line.send(Finish())
    assert line.is_closed()
    disk.go()
    disk.supervisor.process.wait(10)
    assert "job.journal" in disk.synced()


@pytest.fixture
def standing(tmp_path) -> Iterator[RunningSupervisor]:
    """A supervisor whose clock stands still."""
    before = STANDING_CLOCK.format(folder=str(tmp_path))
    supervisor = RunningSupervisor(tmp_path / "state", before)
    yield supervisor
    supervisor.end()


def test_an_end_is_safe_within_100_ms_also_behind_a_slow_file(standing, tmp_path):
    def notes() -> dict[tuple[str, str], float]:
        """Give when each file was last written or made safe."""
        words = (tmp_path / "notes").read_text().split()
        each = zip(words[::3], words[1::3], words[2::3], strict=True)
        return {(what, name): float(when) for what, name, when in each}

    line = standing.connect()
    line.greet()
    line.spawn("first", "exit 3")
    line.outcome("first")
    wait_until(lambda: ("synced", "first.journal") in notes())
    line.spawn("second", "exit 3")
    line.outcome("second")
    (tmp_path / "go").touch()
    wait_until(lambda: ("synced", "second.journal") in notes())
    for name in ("first.journal", "second.journal"):
        late = notes()["synced", name] - notes()["written", name]
        assert 0.05 < late < 0.1
