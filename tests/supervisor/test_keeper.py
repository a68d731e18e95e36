"""A real supervisor process: jobs, stdin, timeouts, bad input, its own end."""

import ctypes
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mlepool.supervisor.fresh import MOST_FRESH
from mlepool.supervisor.keeper import LINGER
from mlepool.supervisor.messages import (
    SOCKET_FILE,
    Fed,
    Feed,
    Finish,
    Greet,
    Greeting,
    Grown,
    JobEnded,
    Spawn,
    Spawned,
    Stop,
    Stopped,
    encode,
)
from mlepool.supervisor.processes import command_line
from mlepool.wire.records import RecordParser
from tests.conftest import wait_until
from tests.needs import lacking
from tests.supervisor.conftest import RunningSupervisor

PYTHON = sys.executable.encode()
PIDFD_GETFD = 438  # pidfd_getfd(2), which libc may have no name for

pytestmark = pytest.mark.real


def is_alive(pid: int) -> bool:
    """Tell if a process lives; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


# -- jobs


def test_a_job_is_spawned_drained_reaped_and_its_end_is_told(line, supervisor):
    line.spawn("job", "echo out; echo err >&2; exit 3")
    spawned = line.wait_for(Spawned, "job")
    outcome = line.outcome("job")
    assert spawned.pid > 0
    assert (outcome.status, outcome.exit_code) == ("FAILED", 3)
    assert (outcome.stdout, outcome.stderr) == (4, 4)
    assert supervisor.output("job") == {"stdout": b"out\n", "stderr": b"err\n"}
    assert not is_alive(spawned.pid)


def blocked(status: str) -> int:
    """Give the mask of blocked signals that /proc/PID/status tells of."""
    return int(status.partition("SigBlk:")[2].split(maxsplit=1)[0], 16)


def test_jobs_have_no_signal_blocked_that_the_loop_has(line, supervisor):
    ours = Path(f"/proc/{supervisor.process.pid}/status").read_text()
    assert blocked(ours) == 1 << signal.SIGCHLD - 1
    cat = (b"cat", b"/proc/self/status")
    names = ["alone", "beside-1", "beside-2", "beside-3"]
    orders = [Spawn(name, cat, "cat", "/", {}) for name in names]
    line.send(orders[0])
    line.wait_for(Spawned, "alone")
    line.send(*orders[1:])
    for name in names:
        assert line.outcome(name).exit_code == 0
        assert blocked(supervisor.output(name)["stdout"].decode()) == 0


def test_a_handler_tells_of_ends_where_no_descriptor_does(tmp_path):
    none = "import mlepool.supervisor.signals as s; s.watch_children = lambda: None"
    supervisor = RunningSupervisor(tmp_path / "state", none)
    line = supervisor.connect()
    line.greet()
    line.spawn("job", "exit 3")
    assert line.outcome("job").exit_code == 3
    status = Path(f"/proc/{supervisor.process.pid}/status").read_text()
    supervisor.end()
    assert blocked(status) == 0


def test_the_first_of_many_ends_before_the_last_begins(line):
    names = [f"job{number}" for number in range(200)]
    true = (b"true",)
    line.send(*(Spawn(name, true, "true", "/", {}, is_awaited=True) for name in names))
    told = [line.receive() for _ in range(2 * len(names))]
    begun = [one.id for one in told if isinstance(one, Spawned)]
    ended = [one.id for one in told if isinstance(one, JobEnded)]
    assert (begun, sorted(ended)) == (names, sorted(names))
    assert any(isinstance(one, JobEnded) for one in told[: len(names)])


def test_positions_are_told_while_a_job_writes(line, supervisor):
    line.spawn("job", "echo one; read x; echo two", stdin=True)
    grown = line.wait_for(Grown, "job")
    assert supervisor.output("job")["stdout"] == b"one\n"
    line.send(Feed("job", 0, b"go\n"))
    assert line.outcome("job").end > grown.position


def test_a_start_that_nobody_waits_for_is_told_a_moment_later(line):
    for job_id, command in (
        ("short", "exit 0"),
        ("quiet", "exec sleep 62"),
        ("also-quiet", "exec sleep 62"),
    ):
        line.spawn(job_id, command, is_awaited=False)
    assert line.wait_for(Spawned, "also-quiet").pid > 0
    assert line.wait_for(Spawned, "quiet").pid > 0
    assert line.outcome("short").exit_code == 0


def test_a_start_is_told_before_the_first_output(line):
    line.spawn("job", "echo out; exec sleep 62", is_awaited=False)
    assert [type(line.receive()) for _ in range(2)] == [Spawned, Grown]


def test_a_little_output_comes_with_the_news_and_is_in_the_journal(line, supervisor):
    line.spawn("job", "echo one; read x; echo two >&2", stdin=True)
    grown = line.wait_for(Grown, "job")
    assert len(grown.fresh) == grown.position
    line.send(Feed("job", 0, b"go\n"))
    told = grown.fresh
    while not isinstance(message := line.receive(), JobEnded):
        told += message.fresh if isinstance(message, Grown) else b""
    records = RecordParser().feed(told + message.fresh)
    assert records == supervisor.records("job")
    assert [one.data for one in records] == [b"one\n", b"two\n"]


def test_much_output_does_not_come_with_the_news(line):
    line.spawn(
        "job", f"read x; head -c {MOST_FRESH + 1} /dev/zero; sleep 60", stdin=True
    )
    line.send(Feed("job", 0, b"go\n"))
    grown = line.wait_for(Grown, "job")
    assert (grown.position > MOST_FRESH, grown.fresh) == (True, b"")


def test_output_is_told_though_something_else_is_said_at_once(line, supervisor):
    go, there = supervisor.folder / "go", supervisor.folder / "there"
    wait = f"while [ ! -e {go} ]; do sleep 0.01; done"
    line.spawn("job", f"{wait}; echo one; : > {there}; exec sleep 60", stdin=True)
    line.wait_for(Spawned, "job")
    os.kill(supervisor.process.pid, signal.SIGSTOP)
    line.send(Feed("job", 0, b"x"))
    go.touch()
    wait_until(there.exists)
    os.kill(supervisor.process.pid, signal.SIGCONT)  # it finds both in one turn
    assert line.wait_for(Fed, "job").offset == 1
    assert line.wait_for(Grown, "job").position > 0


def borrowed_pipes(pid: int, known: set[int]) -> list[int]:
    """Hold the pipes of a process open in ours."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    fds = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()} - known
    other = os.pidfd_open(pid)
    held = [call(PIDFD_GETFD, other, fd, 0) for fd in fds]
    os.close(other)
    if min(held) < 0:
        lacking(f"the right to share files ({os.strerror(ctypes.get_errno())})")
    return held


def test_a_pipe_that_somebody_else_has_open_is_no_job_s_any_more(line, supervisor):
    # As for a moment a program that is being started: close() does not end epoll then.
    line.spawn("warm", "true")
    line.outcome("warm")
    pid = supervisor.process.pid
    known = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
    line.spawn("first", "read x; echo $x", stdin=True)
    line.wait_for(Spawned, "first")
    held = borrowed_pipes(pid, known)
    line.send(Feed("first", 0, b"go\n"))
    assert line.outcome("first").status == "SUCCEEDED"
    for number in range(20):  # under the same numbers
        line.spawn(f"job{number}", f"echo {number}; echo x >&2")
        assert line.outcome(f"job{number}").stdout == len(f"{number}\n")
        assert supervisor.output(f"job{number}")["stderr"] == b"x\n"
    for fd in held:
        os.close(fd)
    assert supervisor.process.poll() is None, supervisor.log


def test_a_deadline_stops_the_whole_tree(line):
    line.spawn("job", "sleep 61 & sleep 62", timeout=0.3)
    pid = line.wait_for(Spawned, "job").pid
    outcome = line.outcome("job")
    assert (outcome.status, outcome.reason) == ("TIMED_OUT", "timeout")
    assert 0.25 <= outcome.ended - outcome.started < 5
    assert not is_alive(pid)


def test_a_deadline_that_nobody_lives_to_see_harms_nobody(line):
    for number, timeout in enumerate((2.2e6, 1e18, 1.7e308)):
        line.spawn(f"long-{number}", "exec sleep 60", timeout=timeout)
        line.wait_for(Spawned)
    line.spawn("job", "echo done")
    assert line.outcome("job").exit_code == 0


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(60)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(60)
"""


def test_a_daemonised_grandchild_is_found_by_its_stamp_and_stopped(line, supervisor):
    line.send(Spawn("job", (PYTHON, b"-c", DAEMON.encode()), "daemon", "/", {}))
    leader = line.wait_for(Spawned).pid
    line.wait_for(Grown)
    (daemon,) = (one for one in supervisor.children() if one != leader)
    line.send(Stop("job"))
    report = line.wait_for(Stopped).report
    assert report.complete
    assert {leader, daemon} == {one.pid for one in report.signalled}
    assert not is_alive(daemon)


def test_a_stop_reports_each_signal_and_no_survivor(line):
    line.spawn("job", "sleep 61 & setsid sleep 62 & exec sleep 63")
    pid = line.wait_for(Spawned, "job").pid
    line.send(Stop("job", grace=5.0, reason="stopped"))
    report = line.wait_for(Stopped).report
    outcome = line.outcome("job")
    assert report.complete
    assert (report.status, outcome.status) == ("STOPPED", "STOPPED")
    assert pid in {one.pid for one in report.signalled}
    assert all(not is_alive(one.pid) for one in report.signalled)


def test_a_stop_of_what_is_not_there_is_answered(line):
    line.send(Stop("nobody"))
    report = line.wait_for(Stopped, "nobody").report
    assert (report.status, report.signalled) == ("", ())


def test_two_stops_of_one_job_are_both_answered(line):
    line.spawn("job", "trap '' INT; echo deaf; while :; do sleep 1; done")
    line.wait_for(Grown, "job")
    line.send(Stop("job", grace=60.0), Stop("job", grace=60.0))
    for _ in range(2):
        assert line.wait_for(Stopped).report.complete
    assert line.outcome("job").status == "STOPPED"


# Nothing here outlives SIGKILL, as a process does that hangs in a dead NFS mount; one
# that no signal reaches looks the same from outside.
DEAF_TO_ALL = """
import mlepool.supervisor.stop as stop
stop.send_signal = stop.signal_group = lambda *_: False
stop.KILL_LIMIT = 0.2
"""


@pytest.mark.parametrize(
    ("command", "status"),
    [("exec sleep 61", "RUNNING"), ("setsid sleep 61 & exit 0", "STOPPED")],
)
def test_a_stop_that_cannot_kill_ends_and_names_the_survivor(tmp_path, command, status):
    supervisor = RunningSupervisor(tmp_path / "state", DEAF_TO_ALL)
    line = supervisor.connect()
    line.greet()
    line.spawn("job", command)
    line.wait_for(Spawned)
    wait_until(lambda: "sleep 61" in map(command_line, supervisor.children()))
    line.send(Stop("job", "SIGKILL"))
    report = line.wait_for(Stopped).report
    (survivor,) = report.survivors
    assert (report.status, survivor.command) == (status, "sleep 61")
    assert survivor.pid in supervisor.children()
    supervisor.end()


# -- stdin


def test_stdin_bytes_that_came_before_are_passed_over(line, supervisor):
    line.spawn("job", "cat", stdin=True)
    line.send(Feed("job", 0, b"abc"), Feed("job", 0, b"abc"), Feed("job", 1, b"bcd"))
    line.send(Feed("job", 0, b"abcd"), Feed("job", 4, b"e", end=True))
    assert line.outcome("job").stdout == 5
    assert supervisor.output("job")["stdout"] == b"abcde"


def test_a_gap_in_stdin_is_refused_and_nothing_of_it_is_written(line, supervisor):
    line.spawn("job", "cat", stdin=True)
    line.send(Feed("job", 0, b"abc"))
    assert line.wait_for(Fed).offset == 3
    line.send(Feed("job", 4, b"e"))
    refused = line.wait_for(Fed)
    assert (refused.offset, refused.closed) == (3, False)
    assert "stdin is at 3, not at 4" in refused.problem
    line.send(Feed("job", 3, b"", end=True))
    assert line.outcome("job").exit_code == 0
    assert supervisor.output("job")["stdout"] == b"abc"


def test_who_does_not_read_its_stdin_is_fed_a_bounded_part(line, supervisor):
    line.spawn("job", "exec sleep 60", stdin=True)
    line.wait_for(Spawned)
    chunk = bytes(256 * 1024)
    before = supervisor.resident()
    offset = 0
    for _ in range(100):
        line.send(Feed("job", offset, chunk))
        fed = line.wait_for(Fed)
        if fed.problem:
            break
        offset += len(chunk)
    assert fed.problem == "the process does not read its stdin"
    assert fed.offset < offset <= 2 * 1024 * 1024
    assert supervisor.resident() - before < 16 * 1024 * 1024
    line.spawn("other", "echo well")
    assert line.outcome("other").exit_code == 0


def test_stdin_that_nobody_reads_any_more_is_closed_not_taken(line):
    line.spawn("job", "exec <&-; echo closed; exec sleep 60", stdin=True)
    line.wait_for(Grown, "job")
    line.send(Feed("job", 0, b"abc"))
    fed = line.wait_for(Fed)
    assert (fed.offset, fed.closed) == (0, True)
    line.send(Feed("job", 3, b"def"))
    fed = line.wait_for(Fed)
    assert (fed.offset, fed.closed) == (0, True)


def test_stdin_of_a_job_without_one_is_closed(line):
    line.spawn("job", "exec sleep 60")
    line.send(Feed("job", 0, b"abc"))
    fed = line.wait_for(Fed)
    assert (fed.offset, fed.closed) == (0, True)


def test_a_process_that_dies_while_it_is_fed_harms_no_other_job(line):
    line.spawn("steady", "exec sleep 60")
    for number in range(60):
        job = f"job-{number}"
        line.spawn(job, "exec head -c 1", stdin=True)
        line.send(Feed(job, 0, bytes(900_000)))
        other = f"other-{number}"
        line.spawn(other, "echo well")
        assert line.outcome(job).exit_code == 0
        assert line.outcome(other).stdout == 5
    line.send(Stop("steady"))
    assert line.outcome("steady").status == "STOPPED"


# -- the worker comes and goes


def test_jobs_go_on_and_are_drained_while_no_worker_is_there(
    line, supervisor, tmp_path
):
    line.spawn(
        "job",
        f"read x; head -c 3000000 /dev/zero; touch {tmp_path}/all; sleep 60",
        stdin=True,
    )
    line.send(Feed("job", 0, b"go\n"))
    line.wait_for(Fed)
    line.close()
    wait_until((tmp_path / "all").exists)
    wait_until(lambda: len(supervisor.output("job")["stdout"]) == 3_000_000)
    (info,) = supervisor.connect().greet().jobs
    assert (info.id, info.outcome) == ("job", None)
    assert info.position > 3_000_000


def test_a_job_that_ends_while_no_worker_is_there_has_its_end_on_disk(line, supervisor):
    line.spawn("job", "read x; echo well", stdin=True)
    line.send(Feed("job", 0, b"go\n"))
    line.wait_for(Fed)
    line.close()
    wait_until(lambda: supervisor.outcome("job") is not None)
    outcome = supervisor.outcome("job")
    assert outcome is not None
    assert (outcome.status, outcome.stdout) == ("SUCCEEDED", 5)
    assert supervisor.connect().greet().jobs == ()


def test_a_new_worker_takes_the_place_of_the_old_one(line, supervisor):
    line.spawn("job", "exec sleep 60")
    line.wait_for(Spawned)
    new = supervisor.connect()
    assert [one.id for one in new.greet().jobs] == ["job"]
    assert line.is_closed()
    new.send(Stop("job"))
    assert new.wait_for(Stopped).report.complete


def test_it_ends_by_itself_when_the_worker_is_gone_and_no_job_runs(line, supervisor):
    line.spawn("job", "read x", stdin=True)
    line.wait_for(Spawned)
    line.send(Finish())
    line.close()
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.process.wait(0.5)
    (job,) = supervisor.children()
    os.kill(job, signal.SIGTERM)
    assert supervisor.process.wait(LINGER) == 0
    assert not (supervisor.folder / SOCKET_FILE).exists()


def test_it_lingers_for_a_worker_that_was_killed_and_ends_then(line, supervisor):
    line.close()
    began = time.monotonic()
    assert supervisor.process.wait(LINGER + 10) == 0
    assert time.monotonic() - began > LINGER / 2


def test_two_supervisors_never_serve_one_folder(line, supervisor):
    done = subprocess.run(
        [sys.executable, "-m", "mlepool.supervisor", str(supervisor.folder)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "another supervisor serves" in done.stderr
    assert "Traceback" not in done.stderr
    assert supervisor.connect().greet().pid == supervisor.process.pid


def test_sigterm_and_sigint_do_not_end_it(line, supervisor):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        supervisor.process.send_signal(number)
    line.spawn("job", "echo well")
    assert line.outcome("job").exit_code == 0


def test_a_worker_of_another_version_is_told(supervisor):
    line = supervisor.connect()
    line.send(Greet(oldest=98, newest=99))
    assert line.wait_for(Greeting).version == 0


# -- bad input


def test_bad_frames_close_the_connection_and_nothing_else(line, supervisor):
    line.spawn("steady", "exec sleep 60")
    line.wait_for(Spawned)
    for bad in bad_input():
        other = supervisor.connect()
        other.send_raw(bad)
        other.sock.shutdown(socket.SHUT_WR)
        assert other.is_closed()
        other.close()
    back = supervisor.connect()
    (info,) = back.greet().jobs
    assert is_alive(info.pid)
    back.send(Stop("steady"))
    assert back.wait_for(Stopped).report.complete
    assert "Traceback" not in supervisor.log


def test_random_bytes_and_random_messages_harm_nobody(supervisor):
    @given(st.lists(st.binary(max_size=50) | anything(), max_size=5))
    @settings(max_examples=150, deadline=None)
    def send(frames):
        line = supervisor.connect()
        line.send_raw(b"".join(struct.pack(">I", len(one)) + one for one in frames))
        line.close()

    send()
    line = supervisor.connect()
    line.greet()
    line.spawn("after-all", "echo well")
    assert line.outcome("after-all").stdout == 5
    assert "Traceback" not in supervisor.log


def test_a_worker_that_does_not_read_costs_little_and_delays_nobody(line, supervisor):
    line.spawn("job", "yes | head -c 30000000")
    wait_until(lambda: supervisor.outcome("job") is not None, 30)
    before = supervisor.resident()
    for number in range(300):
        line.spawn(f"job-{number}", "exit 0")
    wait_until(lambda: supervisor.outcome("job-299") is not None, 30)
    assert supervisor.resident() - before < 16 * 1024 * 1024
    assert line.outcome("job-299").exit_code == 0


def bad_input() -> list[bytes]:
    """Give what no worker sends."""
    wishes = [
        Spawn("", (b"true",), "true", "/", {}),
        Spawn("../job", (b"true",), "true", "/", {}),
        Spawn("a\0b", (b"true",), "true", "/", {}),
        Spawn("x" * 1000, (b"true",), "true", "/", {}),
        Spawn("job", (), "", "/", {}),
        Spawn("job", (b"true",), "true", "/", {}, timeout=float("nan")),
        Spawn("job", (b"true",), "true", "/", {}, timeout=-1.0),
        Stop("steady", "SIGNOPE"),
        Stop("steady", "SIGINT", grace=float("nan")),
        Stop("steady", "SIGINT", grace=-1.0),
        Feed("steady", -1, b"x"),
    ]
    frames = [encode(one) for one in wishes]
    frames += [b"", b"\xc1", b"\x91\x63", b"\x92\x02\xa1", b"\x91" * 100_000]
    frames += [random.Random(7).randbytes(1000)]
    whole = [struct.pack(">I", len(one)) + one for one in frames]
    return [*whole, b"\xff\xff\xff\xff", struct.pack(">I", 2**20 + 1), b"\0\0\0\x05ab"]


def anything() -> st.SearchStrategy[bytes]:
    """Give messages that can be decoded, with odd values."""
    ids = st.sampled_from(["a", "b", "steady", "../x", ""])
    numbers = st.integers(-(2**63), 2**64 - 1)
    floats = st.floats()
    spawns = st.builds(
        Spawn,
        ids,
        st.lists(st.binary(max_size=5), max_size=3).map(tuple),
        st.text(max_size=3),
        st.sampled_from(["/", "", "\0", "/no/where"]),
        st.dictionaries(st.binary(max_size=3), st.binary(max_size=3), max_size=2),
        st.booleans(),
        st.none() | floats,
    )
    feeds = st.builds(Feed, ids, numbers, st.binary(max_size=9), st.booleans())
    signals = st.sampled_from(["SIGINT", "SIGKILL", "SIGNOPE", ""])
    stops = st.builds(Stop, ids, signals, floats)
    greets = st.builds(Greet, numbers, numbers)
    return (spawns | feeds | stops | greets).map(encode)
