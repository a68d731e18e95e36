"""Stopping real processes in stages, until there is proof that they are dead."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.processes import (
    PR_SET_CHILD_SUBREAPER,
    Process,
    become_subreaper,
    command_line,
    identify,
    members,
    send_signal,
)
from mlepool.supervisor.stop import KILL_LIMIT, POLL, Stopping
from mlepool.wire.values import StopReport
from tests.conftest import wait_until
from tests.supervisor.test_spawn import STAMP, begin

DEAF = "import signal, time; {}; print('deaf', flush=True); time.sleep(60)"
IGNORE = "signal.signal(signal.{}, signal.SIG_IGN)"


class Tree:
    """A shell command's processes."""

    def __init__(self, command: str) -> None:
        argv = (b"/bin/sh", b"-c", command.encode())
        self._started = begin(Spawn("job-1", argv, command, "/", {}))
        found = identify(self._started.pid)
        assert found is not None
        self.leader = found
        self._seen = {found.pid}

    def find(self) -> list[Process]:
        living = members(STAMP, self.leader.pid, others=[])
        self._seen.update(one.pid for one in living)
        return living

    def commands(self) -> set[str]:
        return {command_line(one.pid) for one in self.find()}

    def wait_for(self, *commands: str) -> None:
        wait_until(lambda: set(commands) <= self.commands())

    def wait_for_output(self, text: bytes) -> None:
        os.set_blocking(self._started.stdout, True)
        assert text in os.read(self._started.stdout, 100)

    def stop(
        self, name: str = "SIGINT", grace: float = 10.0
    ) -> tuple[StopReport, float]:
        """Stop it; the report and the seconds it took."""
        began = time.monotonic()
        stopping = Stopping(name, grace, self.find, now=began, reason="test")
        while not stopping.is_over:
            stopping.advance(time.monotonic())
            time.sleep(POLL)
        return stopping.report("job-1", "STOPPED"), time.monotonic() - began

    def end(self) -> None:
        for one in self.find():
            send_signal(one, signal.SIGKILL)
        for pid in self._seen:
            with contextlib.suppress(ChildProcessError):  # its own parent has done it
                os.waitpid(pid, 0)
        os.close(self._started.stdout)
        os.close(self._started.stderr)


@pytest.fixture
def grow() -> Iterator[type[Tree]]:
    """Make trees that are gone after the test; orphans stay ours, as a keeper's do."""
    made: list[Tree] = []
    assert become_subreaper()

    class Grown(Tree):
        def __init__(self, command: str) -> None:
            super().__init__(command)
            made.append(self)

    yield Grown
    for tree in made:
        tree.end()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def names(report: StopReport) -> list[str]:
    return [one.signal for one in report.signalled]


def deaf(*signals: str) -> str:
    code = DEAF.format("; ".join(IGNORE.format(one) for one in signals))
    return f'exec {sys.executable} -c "{code}"'


def test_one_signal_ends_what_heeds_it(grow):
    tree = grow("exec sleep 60")
    tree.wait_for("sleep 60")
    report, seconds = tree.stop()
    assert names(report) == ["SIGINT"]
    assert report.complete
    assert (report.signalled[0].pid, report.signalled[0].command) == (
        tree.leader.pid,
        "sleep 60",
    )
    assert seconds < 5
    assert report.seconds <= seconds


def test_who_ignores_sigint_gets_sigterm_without_a_wait(grow):
    tree = grow(deaf("SIGINT"))
    tree.wait_for_output(b"deaf")
    report, seconds = tree.stop()
    assert names(report) == ["SIGINT", "SIGTERM"]
    assert report.complete
    assert seconds < 5


def test_who_ignores_sigint_and_sigterm_is_killed_without_a_wait(grow):
    tree = grow(deaf("SIGINT", "SIGTERM"))
    tree.wait_for_output(b"deaf")
    report, seconds = tree.stop()
    assert names(report) == ["SIGINT", "SIGTERM", "SIGKILL"]
    assert report.complete
    assert seconds < 5


def test_who_handles_a_signal_and_goes_on_gets_its_grace(grow):
    handler = "signal.signal(signal.SIGINT, lambda *_: None)"
    code = f"import signal, time; {handler}; print('deaf', flush=True)\nwhile 1: "
    tree = grow(f'exec {sys.executable} -c "{code}time.sleep(60)"')
    tree.wait_for_output(b"deaf")
    report, seconds = tree.stop(grace=0.4)
    assert names(report) == ["SIGINT", "SIGTERM"]
    assert 0.4 <= report.signalled[1].after <= seconds
    assert report.complete


def test_a_background_child_of_a_shell_ignores_sigint_and_costs_no_grace(grow):
    tree = grow("sleep 61 & sleep 62")
    tree.wait_for("sleep 61", "sleep 62")
    report, seconds = tree.stop()
    assert report.complete
    assert ("SIGTERM", "sleep 61") in [
        (one.signal, one.command) for one in report.signalled
    ]
    assert seconds < 5


def test_a_stopped_process_is_continued_to_heed_the_signal(grow):
    tree = grow("exec sleep 60")
    tree.wait_for("sleep 60")
    os.kill(tree.leader.pid, signal.SIGSTOP)
    report, seconds = tree.stop()
    assert names(report) == ["SIGINT"]
    assert report.complete
    assert seconds < 5


def test_every_process_of_a_pipeline_is_signalled(grow):
    tree = grow("sleep 61 | sleep 62 | sleep 63")
    tree.wait_for("sleep 61", "sleep 62", "sleep 63")
    report, _ = tree.stop()
    assert {"sleep 61", "sleep 62", "sleep 63"} <= {
        one.command for one in report.signalled
    }
    assert report.complete
    assert tree.find() == []


def test_what_is_born_during_the_stop_is_signalled_too(grow):
    tree = grow("trap 'setsid sleep 61 & wait' INT; echo deaf; sleep 62 & wait")
    tree.wait_for_output(b"deaf")
    tree.wait_for("sleep 62")
    report, _ = tree.stop(grace=0.5)
    assert "sleep 61" in {one.command for one in report.signalled}
    assert report.complete
    assert tree.find() == []


def test_a_program_that_takes_the_place_of_one_that_was_signalled_is_signalled(grow):
    """As the child of a shell does: it has the shell's handlers until its execve(2)."""
    handler = "lambda *_: os.execvp('sleep', ['sleep', '61'])"
    code = f"import os, signal, time; signal.signal(signal.SIGINT, {handler}); "
    tree = grow(
        f"exec {sys.executable} -c \"{code} print('deaf', flush=True); time.sleep(60)\""
    )
    tree.wait_for_output(b"deaf")
    report, seconds = tree.stop()
    assert names(report) == ["SIGINT", "SIGINT"]
    assert report.signalled[1].command == "sleep 61"
    assert report.complete
    assert seconds < 5


def test_a_program_that_goes_on_is_signalled_once(grow):
    handler = "signal.signal(signal.SIGINT, lambda *_: None)"
    code = f"import signal, time; {handler}; print('deaf', flush=True)\nwhile 1: "
    tree = grow(f'exec {sys.executable} -c "{code}time.sleep(60)"')
    tree.wait_for_output(b"deaf")
    report, _ = tree.stop(grace=0.5)
    assert names(report) == ["SIGINT", "SIGTERM"]


def test_a_group_is_signalled_at_one_moment(grow):
    """Also who is born between the look at it and the signal."""
    tree = grow("sleep 61 | sleep 62; true")
    tree.wait_for("sleep 61", "sleep 62")
    stopping = Stopping("SIGTERM", 10.0, lambda: [tree.leader], now=0.0)
    stopping.advance(0.0)
    wait_until(lambda: tree.find() == [])
    assert [one.pid for one in stopping.report("job-1", "").signalled] == [
        tree.leader.pid
    ]


def test_a_group_is_signalled_but_once_though_its_leader_becomes_another(grow):
    again = "lambda *_: os.execvp('sleep', ['sleep', '61'])"
    on_signal = "signal.signal(signal.SIGINT, {})"
    # Not print(): it may be interrupted in one, and that can't be entered again.
    counting = on_signal.format("lambda *_: os.write(1, b'deaf.')")
    code = (
        f"import os, signal, time\n{on_signal.format(again)}\nif os.fork() == 0:\n"
        f" {counting}; print('ready', flush=True)\n while 1: time.sleep(60)\n"
        "time.sleep(60)"
    )
    tree = grow(f'exec {sys.executable} -c "{code}"')
    tree.wait_for_output(b"ready")
    report, _ = tree.stop(grace=0.5)
    assert sorted(names(report)) == ["SIGINT", "SIGINT", "SIGINT", "SIGTERM"]
    tree.wait_for_output(b"deaf.")
    assert report.complete


def test_nothing_is_signalled_where_nothing_lives():
    stopping = Stopping("SIGINT", 10.0, list, now=5.0)
    stopping.advance(5.0)
    assert stopping.is_over
    assert stopping.report("job", "STOPPED") == StopReport("job", "STOPPED")


def test_a_second_stop_goes_to_the_next_stage_at_once():
    with living() as (process, found):
        stopping = Stopping("SIGCONT", 10.0, lambda: [found], now=0.0)
        stopping.advance(0.0)
        assert process.poll() is None
        stopping.hurry("SIGINT")
        stopping.advance(0.1)
        assert process.wait(10) == -signal.SIGTERM


def test_a_second_stop_goes_to_its_own_stage_and_lets_sigkill_have_its_time():
    with living() as (process, found):
        stopping = Stopping("SIGCONT", 10.0, lambda: [found], now=0.0)
        stopping.advance(0.0)
        for now in (0.1, 0.2):
            stopping.hurry("SIGKILL")
            stopping.advance(now)
            assert not stopping.is_over
        assert process.wait(10) == -signal.SIGKILL
        assert names(stopping.report("job", "STOPPED")) == ["SIGCONT", "SIGKILL"]


def test_stages_change_at_their_time_and_not_before():
    with living() as (process, found):
        stopping = Stopping("SIGCONT", 10.0, lambda: [found], now=100.0)
        stopping.advance(100.0)
        stopping.advance(109.99)
        assert process.poll() is None
        stopping.advance(110.0)
        assert process.wait(10) == -signal.SIGTERM


def test_survivors_are_named_when_sigkill_was_in_vain():
    with living() as (process, found):
        # Nothing survives SIGKILL for long, but one whose identity is not proven.
        forged = found._replace(start_ticks=found.start_ticks + 1)
        stopping = Stopping("SIGKILL", 10.0, lambda: [forged], now=0.0)
        for now in (0.0, 1.0, KILL_LIMIT - 0.01):
            stopping.advance(now)
            assert not stopping.is_over
        stopping.advance(KILL_LIMIT)
        assert stopping.is_over
        report = stopping.report("job", "STOPPED")
        assert process.poll() is None
    assert not report.complete
    assert report.signalled == ()
    assert [(one.pid, one.command) for one in report.survivors] == [
        (found.pid, "sleep 60")
    ]
    assert report.seconds == KILL_LIMIT


def test_an_unknown_signal_is_refused():
    with pytest.raises(ValueError, match="SIGNOPE"):
        Stopping("SIGNOPE", 10.0, list, now=0.0)


class living:  # noqa: N801
    """A process that does nothing, and who it is."""

    def __enter__(self) -> tuple[subprocess.Popen[bytes], Process]:
        self._process = subprocess.Popen(["sleep", "60"])
        wait_until(lambda: command_line(self._process.pid) == "sleep 60")
        found = identify(self._process.pid)
        assert found is not None
        return self._process, found

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
