"""Real processes: proven to be who they are, found, signalled."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mlepool.supervisor.processes import (
    Process,
    boot_id,
    command_line,
    identify,
    ignores,
    members,
    send_signal,
    signal_group,
    stamp_of,
)
from mlepool.supervisor.spawn import Started
from tests.conftest import wait_until
from tests.supervisor.test_spawn import STAMP, STATE, begin, order, output


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
    started = begin(order("sh", "-c", command))
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
    wait_until(lambda: expected < commands(members(STAMP, leader.pid, others=[])))
    kill(members(STAMP, leader.pid, others=[]))
    output(started)
    assert members(STAMP, leader.pid, others=[]) == []


def test_another_jobs_processes_are_not_members():
    started, leader = tree("exec sleep 61")
    other, other_leader = tree("exec sleep 62")
    (found,) = members(STAMP, leader.pid, others=[other.pid])
    assert (found.pid, found.start_ticks) == (leader.pid, leader.start_ticks)
    (found,) = members(stamp_of("job-2", STATE), leader.pid, others=[other.pid])
    assert found.pid == leader.pid
    kill([leader, other_leader])
    output(started)
    output(other)


def test_a_stranger_is_no_member_even_with_the_stamp():
    code = (
        "import os, subprocess, sys\n"
        "from mlepool.supervisor.processes import members\n"
        f"print(members({STAMP}, 0, others=[]))\n"
    )
    stamped = {**os.environb, **STAMP}
    with subprocess.Popen(["sleep", "60"], env=stamped) as stranger:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        stranger.kill()
    assert done.stdout == "[]\n"


def test_only_a_group_that_a_child_of_ours_leads_is_signalled(child):
    assert not signal_group(identity(child.pid), signal.SIGKILL)  # it is in our group
    code = "import os; os.setsid(); print(os.getpid(), flush=True); os.read(0, 1)"
    grandchild = f"{sys.executable} -c '{code}'; true"
    pipe = subprocess.PIPE
    with subprocess.Popen(grandchild, shell=True, stdin=pipe, stdout=pipe) as shell:
        assert shell.stdout is not None
        found = identity(int(shell.stdout.readline()))
        assert found.group == found.pid
        assert not signal_group(found, signal.SIGKILL)
        shell.communicate(b"x")
    assert shell.returncode == 0
    assert child.poll() is None
