"""Real processes: started, proven to be who they are, found, signalled."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.spawn import (
    JOB_VARIABLE,
    Process,
    Started,
    boot_id,
    command_line,
    identify,
    ignores,
    members,
    send_signal,
    start,
)
from tests.conftest import wait_until

BASE = {b"PATH": os.environb[b"PATH"]}


def order(*argv: str, cwd: str = "/", stdin: bool = False, **env: str) -> Spawn:
    words = tuple(os.fsencode(one) for one in argv)
    given = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    return Spawn("job-1", words, " ".join(argv), cwd, given, stdin=stdin)


def close(started: Started) -> None:
    for fd in (started.stdin, started.stdout, started.stderr):
        if fd >= 0:
            os.close(fd)


def output(started: Started) -> tuple[bytes, bytes, int]:
    """Read both pipes to their ends and reap."""
    texts = []
    for fd in (started.stdout, started.stderr):
        os.set_blocking(fd, True)
        with open(os.dup(fd), "rb") as file:
            texts.append(file.read())
    close(started)
    _, status = os.waitpid(started.pid, 0)
    return texts[0], texts[1], os.waitstatus_to_exitcode(status)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity(pid: int) -> Process:
    found = identify(pid)
    assert found is not None
    return found


def children() -> list[int]:
    """Give the processes whose parent we are."""
    tasks = Path("/proc/self/task").iterdir()
    return [
        int(pid) for task in tasks for pid in (task / "children").read_text().split()
    ]


# -- starting


def test_a_process_gets_argv_env_and_cwd_as_data(tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.environ['A'], os.getcwd())"
    words = ["$HOME; 'x' \"y\" *", "", "ü"]
    text, _, status = output(
        start(
            order(sys.executable, "-c", code, *words, cwd=str(tmp_path), A="$B"), BASE
        )
    )
    assert text.decode() == f"{words} $B {tmp_path}\n"
    assert status == 0


def test_a_process_has_its_own_session_and_its_jobs_stamp():
    started = start(order("sleep", "60"), BASE)
    found = identity(started.pid)
    environ = Path(f"/proc/{started.pid}/environ").read_bytes().split(b"\0")
    os.kill(started.pid, signal.SIGKILL)
    output(started)
    assert (found.session, found.group) == (started.pid, started.pid)
    assert found.parent == os.getpid()
    assert JOB_VARIABLE + b"=job-1" in environ


def test_stdin_is_empty_unless_a_pipe_was_asked_for():
    assert output(start(order("cat"), BASE)) == (b"", b"", 0)
    started = start(order("cat", stdin=True), BASE)
    os.write(started.stdin, b"in")
    os.close(started.stdin)
    assert output(started._replace(stdin=-1)) == (b"in", b"", 0)


def test_a_process_inherits_no_descriptor_of_ours(tmp_path):
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        text, _, _ = output(start(order("ls", "/proc/self/fd"), BASE))
    assert text.split() == [b"0", b"1", b"2", b"3"]  # the last is ls's own


def test_our_ends_of_the_pipes_do_not_block():
    started = start(order("sleep", "60"), BASE)
    with pytest.raises(BlockingIOError):
        os.read(started.stdout, 1)
    os.kill(started.pid, signal.SIGKILL)
    output(started)


@pytest.mark.parametrize(
    ("wish", "error", "filename"),
    [
        (order("no-such-program"), FileNotFoundError, "no-such-program"),
        (order("/etc/passwd"), PermissionError, "/etc/passwd"),
        (order("ls", cwd="/no/such/folder"), FileNotFoundError, "/no/such/folder"),
        (order("ls", cwd="/etc/passwd"), NotADirectoryError, "/etc/passwd"),
        (order("ls", "x" * 200_000), OSError, "ls"),
    ],
)
def test_what_cannot_be_started_raises_and_leaves_nothing(wish, error, filename):
    before = os.listdir("/proc/self/fd"), children()
    with pytest.raises(error) as caught:
        start(wish, BASE)
    assert os.fsdecode(caught.value.filename) == filename
    assert (os.listdir("/proc/self/fd"), children()) == before


@pytest.mark.parametrize(
    "wish", [order("ls", "a\0b"), order("ls", A="a\0b"), order("ls", cwd="/a\0b")]
)
def test_a_nul_is_a_value_error(wish):
    with pytest.raises(ValueError, match="null"):
        start(wish, BASE)


# -- who a pid is


def test_a_process_is_known_by_its_pid_and_start_time(child):
    found = identity(child.pid)
    assert (found.pid, found.parent, found.is_zombie) == (child.pid, os.getpid(), False)
    ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert 0 <= ticks - found.start_ticks < 60 * os.sysconf("SC_CLK_TCK")


def test_a_name_with_spaces_and_parentheses_is_read_right(tmp_path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        found = identity(process.pid)
        process.kill()
    assert (found.pid, found.parent) == (process.pid, os.getpid())


def test_a_dead_process_is_a_zombie_until_it_is_reaped(child):
    child.kill()
    wait_until(lambda: identity(child.pid).is_zombie)
    assert command_line(child.pid) == ""
    child.wait()
    assert identify(child.pid) is None


def test_a_signal_reaches_the_process_that_is_meant(child):
    assert send_signal(identity(child.pid), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("shift", [-1, 1, 10**9])
def test_a_forged_identity_is_never_signalled(child, shift):
    true = identity(child.pid)
    forged = true._replace(start_ticks=true.start_ticks + shift)
    assert not send_signal(forged, signal.SIGKILL)
    assert child.poll() is None


def test_a_process_that_is_gone_is_not_signalled(child):
    gone = identity(child.pid)
    child.kill()
    child.wait()
    assert not send_signal(gone, signal.SIGKILL)


def test_boot_id_names_this_boot():
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()


def test_ignored_signals_are_seen(child):
    assert not ignores(identity(child.pid), signal.SIGINT)
    with subprocess.Popen(["sh", "-c", "trap '' INT; exec sleep 60"]) as deaf:
        wait_until(lambda: command_line(deaf.pid) == "sleep 60")
        found = identity(deaf.pid)
        assert ignores(found, signal.SIGINT)
        assert not ignores(found, signal.SIGTERM)
        deaf.kill()
    assert not ignores(found, signal.SIGINT)  # it is gone


# -- the tree


def tree(command: str) -> tuple[Started, Process]:
    started = start(order("sh", "-c", command), BASE)
    return started, identity(started.pid)


def commands(found: list[Process]) -> set[str]:
    return {command_line(one.pid) for one in found}


def kill(found: list[Process]) -> None:
    for one in found:
        send_signal(one, signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sleep 61 & sleep 62 | sleep 63", {"sleep 61", "sleep 62", "sleep 63"}),
        ("setsid sleep 61 & wait", {"sleep 61"}),
        ("setsid env -i sleep 61 & wait", {"sleep 61"}),
    ],
)
def test_children_are_members_whatever_session_they_are_in(command, expected):
    started, leader = tree(command)
    wait_until(lambda: expected < commands(members("job-1", leader, others=[])))
    kill(members("job-1", leader, others=[]))
    output(started)
    assert members("job-1", leader, others=[]) == []


def test_another_jobs_processes_are_not_members():
    started, leader = tree("exec sleep 61")
    other, other_leader = tree("exec sleep 62")
    assert members("job-1", leader, others=[other.pid]) == [leader]
    found = members("job-2", leader, others=[other.pid])
    assert [one.pid for one in found] == [leader.pid]
    kill([leader, other_leader])
    output(started)
    output(other)


def test_a_stranger_is_no_member_even_with_the_stamp():
    code = (
        "import os, subprocess, sys\n"
        "from mlepool.supervisor.spawn import identify, members\n"
        "nobody = identify(os.getpid())._replace(pid=0)\n"
        "print(members('job-1', nobody, others=[]))\n"
    )
    stamped = {**os.environ, JOB_VARIABLE.decode(): "job-1"}
    with subprocess.Popen(["sleep", "60"], env=stamped) as stranger:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        stranger.kill()
    assert done.stdout == "[]\n"
