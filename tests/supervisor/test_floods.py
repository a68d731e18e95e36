"""Jobs that write very much: real ones, each drained by a process of its own."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from mlepool.config import Limits
from mlepool.supervisor.messages import (
    Attend,
    Feed,
    Greet,
    Grown,
    Spawn,
    Spawned,
    Stop,
    Stopped,
)
from mlepool.supervisor.processes import command_line
from tests.conftest import wait_until
from tests.needs import small_disk
from tests.supervisor.conftest import Line, RunningSupervisor

pytestmark = pytest.mark.real

MIB = 1024 * 1024
AT_ONCE = "import mlepool.supervisor.job as job; job.FLOOD = 1"  # the first byte is one
LINES = """
import os, sys
for part in range(int(sys.argv[1])):
    for number in range(part * 30, part * 30 + 30):
        os.write(1, b"%015d\\n" % number * 8192)
        os.write(2, b"%015d\\n" % number * 64)
    sys.stdin.readline()
"""
PART = 30 * 128 * 1024  # bytes of stdout


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory) -> Iterator[RunningSupervisor]:
    """One for all tests here, that takes every job with output for a flood."""
    running = RunningSupervisor(tmp_path_factory.mktemp("floods") / "state", AT_ONCE)
    yield running
    running.end()
    assert "Traceback" not in running.log


def spawn_lines(line: Line, job_id: str, *, parts: int = 1) -> None:
    argv = (sys.executable.encode(), b"-c", LINES.encode(), b"%d" % parts)
    line.send(Spawn(job_id, argv, "", "/", {}, stdin=True))
    line.wait_for(Spawned, job_id)


def lines(parts: int, times: int) -> bytes:
    return b"".join(b"%015d\n" % number * times for number in range(30 * parts))


def feed(line: Line, job_id: str, *, parts: int = 1) -> None:
    line.send(Feed(job_id, 0, b"\n" * parts))


def drainers(supervisor: RunningSupervisor) -> list[int]:
    """Give its children that are its own program."""
    own = command_line(supervisor.process.pid)
    return [pid for pid in supervisor.children() if command_line(pid) == own]


def drainer(supervisor: RunningSupervisor, *other_than: int) -> int:
    wait_until(lambda: set(drainers(supervisor)) - set(other_than))
    return (set(drainers(supervisor)) - set(other_than)).pop()


def size(supervisor: RunningSupervisor, name: str) -> int:
    path = Path(supervisor.folder, "jobs", f"{name}.journal")
    return path.stat().st_size if path.exists() else 0


def digest(*streams: bytes) -> str:
    sums = ",".join(xxhash.xxh3_128(one).hexdigest() for one in streams)
    return f"xxh3-128:{sums}"


def assert_whole(supervisor: RunningSupervisor, job_id: str, *, parts: int) -> None:
    """See to it that each byte is there once, and that nothing is said to be lost."""
    expected = {"stdout": lines(parts, 8192), "stderr": lines(parts, 64)}
    assert supervisor.output(job_id) == expected
    assert sum(one.dropped for one in supervisor.records(job_id)) == 0
    outcome = supervisor.outcome(job_id)
    assert outcome is not None
    assert (outcome.stdout, outcome.stderr) == (PART * parts, 30 * 1024 * parts)
    assert outcome.digest == digest(*expected.values())


def test_no_byte_is_lost_of_three_floods_with_pauses(line, supervisor):
    names = ("one", "two", "three")
    for name in names:
        spawn_lines(line, name, parts=2)
    wait_until(lambda: len(drainers(supervisor)) == 3)
    for name in names:
        wait_until(lambda name=name: size(supervisor, name) > PART)
        feed(line, name, parts=2)
    assert [line.outcome(name).exit_code for name in names] == [0, 0, 0]
    for name in names:
        assert_whole(supervisor, name, parts=2)
    wait_until(lambda: not drainers(supervisor))


def test_readers_are_told_of_a_line_after_a_flood(line, supervisor):
    line.spawn("quiet", "echo one; read x; echo two; read x", stdin=True)
    drainer(supervisor)
    told = line.wait_for(Grown, "quiet")
    line.send(Feed("quiet", 0, b"go\n"))
    while line.wait_for(Grown, "quiet").position <= told.position:
        pass
    assert supervisor.output("quiet")["stdout"] == b"one\ntwo\n"
    line.send(Feed("quiet", 3, b"go\n"))
    assert line.outcome("quiet").stdout == 8


def test_a_killed_drainer_loses_and_repeats_no_byte(line, supervisor):
    spawn_lines(line, "killed", parts=6)
    pid = 0
    for kill in range(5):
        pid = drainer(supervisor, pid)
        wait_until(lambda kill=kill: size(supervisor, "killed") > kill * PART)
        line.send(Feed("killed", kill, b"\n"))  # so that there is more to drain
        os.kill(pid, signal.SIGKILL)
    line.send(Feed("killed", 5, b"\n"))
    assert line.outcome("killed").status == "SUCCEEDED"
    assert_whole(supervisor, "killed", parts=6)
    assert supervisor.log.count("one has died") == 5


def test_a_flood_is_stopped_and_others_end_beside_it(tmp_path):
    supervisor = RunningSupervisor(tmp_path / "state")
    line = supervisor.connect()
    line.greet()
    line.spawn("flood", "exec cat /dev/zero")
    drainer(supervisor)
    line.spawn("other", "echo on")
    assert line.outcome("other").stdout == 3
    line.send(Stop("flood"))
    assert line.wait_for(Stopped, None).report.complete
    outcome = line.outcome("flood")
    assert outcome.status == "STOPPED"
    assert outcome.stdout == len(supervisor.output("flood")["stdout"])
    wait_until(lambda: supervisor.children() == [])
    supervisor.end()


def test_a_flood_gives_way_to_others_once_no_reader_keeps_up(tmp_path):
    rests = tmp_path / "rests"
    note = f"lambda seconds: open({str(rests)!r}, 'a').close()"
    changes = f"import mlepool.supervisor.drainer as d; d.BUSY = 60; {AT_ONCE}"
    before = f"{changes}; d.time.sleep = {note}"
    supervisor = RunningSupervisor(tmp_path / "state", before)
    line = supervisor.connect()
    line.greet()
    for name, is_followed in (("followed", True), ("unread", False)):
        spawn_lines(line, name, parts=2)
        line.send(Attend(name, is_followed=is_followed))
        wait_until(lambda name=name: size(supervisor, name) > PART)
        line.spawn(f"beside-{name}", "echo on")
        line.outcome(f"beside-{name}")
        feed(line, name, parts=2)
        assert line.outcome(name).exit_code == 0
        assert_whole(supervisor, name, parts=2)
        assert rests.exists() is not is_followed
    supervisor.end()


def test_a_stop_ends_a_flood_whose_pipe_a_stranger_holds_open(line, supervisor):
    line.spawn("held", "echo begun; exec sleep 60")
    pid = line.wait_for(Spawned, "held").pid
    drainer(supervisor)
    wait_until(lambda: supervisor.output("held")["stdout"] == b"begun\n")
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as pipe:
        line.send(Stop("held"))
        pipe.write(b"late\n")
        outcome = line.outcome("held")
    assert (outcome.status, outcome.stdout) == ("STOPPED", 11)
    assert supervisor.output("held")["stdout"] == b"begun\nlate\n"


def test_of_a_flood_over_its_quota_head_and_tail_are_kept(supervisor):
    line = supervisor.connect()
    environment = {b"PATH": os.environb[b"PATH"]}
    line.send(Greet(environment=environment, limits=Limits(job_quota=4 * MIB)))
    spawn_lines(line, "quota", parts=3)
    first = drainer(supervisor)
    wait_until(lambda: size(supervisor, "quota") > PART // 2)
    os.kill(first, signal.SIGKILL)
    feed(line, "quota", parts=3)
    outcome = line.outcome("quota")
    assert (outcome.status, outcome.stdout) == ("SUCCEEDED", 3 * PART)
    expected, at = lines(3, 8192), 0
    records = [one for one in supervisor.records("quota") if one.stream == 1]
    for one in records:
        at += one.dropped
        assert one.data == expected[at : at + len(one.data)]
        at += len(one.data)
    assert at == len(expected)
    assert sum(len(one.data) for one in records) <= 4 * MIB
    line.send(Greet(environment=environment))


def test_on_a_full_disk_a_flood_goes_on_and_what_is_lost_is_counted(tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        supervisor = RunningSupervisor(disk, AT_ONCE)
        line = supervisor.connect()
        line.greet()
        hog = disk / "hog"
        hog.write_bytes(bytes(MIB))
        line.spawn("other", "read x; echo well", stdin=True)
        flood = f"head -c 9000000 /dev/zero; touch {tmp_path}/all; read x; echo end"
        line.spawn("full", flood, stdin=True)
        wait_until((tmp_path / "all").exists)
        os.kill(drainer(supervisor), signal.SIGKILL)
        hog.unlink()
        line.send(Feed("full", 0, b"go\n"), Feed("other", 0, b"go\n"))
        outcome = line.outcome("full")
        assert (outcome.status, outcome.exit_code) == ("SUCCEEDED", 0)
        records = supervisor.records("full")
        dropped = sum(one.dropped for one in records)
        assert sum(len(one.data) for one in records) + dropped == outcome.stdout
        # One read may be counted as lost that is not: never the other way round.
        assert 9_000_004 <= outcome.stdout < 9_200_000
        assert records[-1].data.endswith(b"end\n")
        assert line.outcome("other").stdout == 5
        assert "Traceback" not in supervisor.log
        supervisor.end()


def test_a_killed_supervisor_takes_its_drainers_along(tmp_path):
    supervisor = RunningSupervisor(tmp_path / "state", AT_ONCE)
    line = supervisor.connect()
    line.greet()
    line.spawn("flood", "exec cat /dev/zero")
    pid = drainer(supervisor)
    wait_until(lambda: size(supervisor, "flood") > MIB)
    supervisor.process.kill()
    supervisor.process.wait()
    after = RunningSupervisor(tmp_path / "state")
    wait_until(lambda: not command_line(pid))
    outcome = after.outcome("flood")
    assert outcome is not None
    assert outcome.status == "LOST"
    assert sum(len(one.data) + 24 for one in after.records("flood")) == outcome.end
    supervisor.end()
    after.end()


def test_where_pipes_cannot_be_poured_into_files_the_loop_drains(tmp_path):
    # The kernel refuses to, as with some file systems, where a file is appended to.
    before = f"import os; os.O_CLOEXEC |= os.O_APPEND; {AT_ONCE}"
    supervisor = RunningSupervisor(tmp_path / "state", before)
    line = supervisor.connect()
    line.greet()
    spawn_lines(line, "flood")
    feed(line, "flood")
    assert line.outcome("flood").exit_code == 0
    assert_whole(supervisor, "flood", parts=1)
    assert drainers(supervisor) == []
    assert "drainer" not in supervisor.log
    supervisor.end()
