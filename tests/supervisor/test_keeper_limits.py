"""A real supervisor process that finds no room on the disk, or no descriptor."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.supervisor.blocks import journal_path
from mlepool.supervisor.messages import (
    JOBS_FOLDER,
    Fed,
    Feed,
    Spawned,
    Stop,
    Stopped,
)
from tests.conftest import wait_until
from tests.needs import small_disk, unread
from tests.supervisor.conftest import Line, RunningSupervisor

pytestmark = pytest.mark.real


# -- a full disk


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[tuple[RunningSupervisor, Line, Path]]:
    """A supervisor on a disk of 300 KB, of which a file takes two thirds."""
    with small_disk(tmp_path / "disk", "300k") as disk:
        supervisor = RunningSupervisor(disk)
        line = supervisor.connect()
        line.greet()
        hog = disk / "hog"
        hog.write_bytes(bytes(200 * 1024))
        try:
            yield supervisor, line, hog
        finally:
            supervisor.end()


def fill(hog: Path) -> None:
    with open(hog, "ab", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_on_a_full_disk_a_job_goes_on_and_what_is_lost_is_counted(full_disk, tmp_path):
    supervisor, line, hog = full_disk
    line.spawn("other", "read x; echo well", stdin=True)
    line.spawn(
        "job",
        f"head -c 1000000 /dev/zero; touch {tmp_path}/all; read x; echo end",
        stdin=True,
    )
    pid = line.wait_for(Spawned, "job").pid
    wait_until((tmp_path / "all").exists)
    wait_until(lambda: unread(pid) == 0)
    os.truncate(hog, 0)
    line.send(Feed("job", 0, b"go\n"), Feed("other", 0, b"go\n"))
    outcome = line.outcome("job")
    assert (outcome.status, outcome.stdout) == ("SUCCEEDED", 1_000_004)
    records = supervisor.records("job")
    dropped = sum(one.dropped for one in records)
    assert dropped > 500_000
    assert sum(len(one.data) for one in records) + dropped == outcome.stdout
    assert records[-1].data.endswith(b"end\n")
    assert line.outcome("other").exit_code == 0
    assert supervisor.output("other")["stdout"] == b"well\n"
    assert supervisor.log.count("output is dropped") == 1
    assert "Traceback" not in supervisor.log


def test_a_job_that_cannot_be_noted_does_not_run(full_disk, tmp_path):
    supervisor, line, hog = full_disk
    fill(hog)
    line.spawn("job", f"sleep 1; touch {tmp_path}/ran; sleep 60")
    failure = line.wait_for(Spawned).failure
    assert failure is not None
    assert (failure.type_name, failure.errno) == ("OSError", errno.ENOSPC)
    wait_until(lambda: supervisor.children() == [])
    assert not (tmp_path / "ran").exists()
    os.truncate(hog, 0)
    line.spawn("job", "echo now")
    assert line.outcome("job").stdout == 4


def test_an_end_that_cannot_be_written_is_told_to_the_next_worker(line, supervisor):
    line.spawn("job", "head -c 50000 /dev/zero; read x; exit 7", stdin=True)
    line.wait_for(Spawned)
    wait_until(lambda: len(supervisor.output("job")["stdout"]) == 50_000)
    size = Path(journal_path(supervisor.folder / JOBS_FOLDER, "job")).stat().st_size
    resource.prlimit(supervisor.process.pid, resource.RLIMIT_FSIZE, (size, size))
    line.send(Feed("job", 0, b"go\n"))
    line.wait_for(Fed)
    line.close()
    wait_until(lambda: "its end can't be written" in supervisor.log)
    assert supervisor.outcome("job") is None
    (info,) = supervisor.connect().greet().jobs
    assert info.outcome is not None
    assert (info.outcome.status, info.outcome.exit_code) == ("FAILED", 7)


# -- out of descriptors


def test_without_a_free_descriptor_a_job_fails_and_nothing_else(line, supervisor):
    line.spawn("steady", "read x; echo well", stdin=True)
    line.wait_for(Spawned, "steady")
    pid, kind = supervisor.process.pid, resource.RLIMIT_NOFILE
    usual = resource.prlimit(pid, kind)
    for spare in range(9):
        taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        free = [number for number in range(1000) if number not in taken]
        resource.prlimit(pid, kind, (free[spare], usual[1]))
        line.spawn(f"job-{spare}", "exit 0")
        line.send(Stop("nobody"))  # its answer comes after the other one
        line.wait_for(Stopped)
    resource.prlimit(pid, kind, (3, usual[1]))
    new = supervisor.connect()
    wait_until(lambda: "cannot accept a worker" in supervisor.log)
    resource.prlimit(pid, kind, usual)
    assert "steady" in [one.id for one in new.greet().jobs]
    new.send(Feed("steady", 0, b"go\n"))
    assert new.outcome("steady").stdout == 5
    new.spawn("after-all", "echo well")
    assert new.outcome("after-all").exit_code == 0
    assert "Traceback" not in supervisor.log


def test_a_stop_without_a_free_descriptor_waits_for_one(line, supervisor):
    line.spawn("job", "exec sleep 60")
    line.wait_for(Spawned, "job")
    pid, kind = supervisor.process.pid, resource.RLIMIT_NOFILE
    usual = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (3, usual[1]))
    line.send(Stop("job"), Stop("nobody"))
    line.wait_for(Stopped, "nobody")
    resource.prlimit(pid, kind, usual)
    assert line.wait_for(Stopped, "job").report.complete
    assert line.outcome("job").status == "STOPPED"
    assert "Traceback" not in supervisor.log
