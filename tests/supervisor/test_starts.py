"""Starts of real jobs: once for each id, side by side, refused without a trace."""

import os
from pathlib import Path

import pytest

from mlepool.supervisor.channel import FRAMES_AT_ONCE
from mlepool.supervisor.messages import Spawn, Spawned, Stop, Stopped, encode
from tests.conftest import wait_until
from tests.supervisor.conftest import RunningSupervisor

pytestmark = pytest.mark.real


def test_what_is_asked_for_at_once_is_started_each_in_its_own_folder(
    line, supervisor, tmp_path
):
    folders = [tmp_path / str(number) for number in range(2 * FRAMES_AT_ONCE)]
    for folder in folders:
        folder.mkdir()
    orders = [
        *(Spawn(one.name, (b"pwd",), "pwd", str(one), {}) for one in folders),
        Spawn("no-program", (b"no-such",), "no-such", "/", {}),
        Spawn("no-folder", (b"pwd",), "pwd", "/nowhere", {}),
        Spawn("terminal", (b"tty",), "tty", "/", {}, terminal=(24, 80)),
    ]
    frames = [encode(order) for order in (orders[0], *orders)]  # the first one twice
    line.sock.sendall(b"".join(len(one).to_bytes(4, "big") + one for one in frames))
    for folder in folders:
        assert line.outcome(folder.name).exit_code == 0
        written = supervisor.output(folder.name)["stdout"]
        assert os.fsdecode(written).strip() == str(folder.resolve())
    for job_id in ("no-program", "no-folder"):
        failure = line.outcome(job_id).failure
        assert failure is not None
        assert failure.type_name == "FileNotFoundError"
    assert line.outcome("terminal").exit_code == 0
    assert supervisor.output("terminal")["stdout"].startswith(b"/dev/")


def test_the_same_id_is_not_started_twice(line, supervisor):
    line.spawn("job", "echo ran >> ran; sleep 60", cwd=str(supervisor.folder))
    first = line.wait_for(Spawned, "job")
    line.spawn("job", "echo ran >> ran", cwd=str(supervisor.folder))
    again = line.wait_for(Spawned, "job")
    assert (again.pid, again.failure) == (first.pid, None)  # it is the same job
    wait_until((supervisor.folder / "ran").exists)
    line.send(Stop("job"))
    assert line.wait_for(Stopped).report.complete
    line.outcome("job")
    line.spawn("job", "echo ran >> ran", cwd=str(supervisor.folder))
    ended = line.wait_for(Spawned, "job")
    assert ended.failure is not None
    assert ended.failure.type_name == "FileExistsError"
    assert (supervisor.folder / "ran").read_text() == "ran\n"


def test_the_same_id_is_not_started_twice_by_a_new_supervisor_either(tmp_path):
    for number in range(2):
        supervisor = RunningSupervisor(tmp_path / "state")
        line = supervisor.connect()
        line.greet()
        line.spawn("job", "echo ran >> ran", cwd=str(supervisor.folder))
        if number == 0:
            line.outcome("job")
        else:
            failure = line.wait_for(Spawned, "job").failure
            assert failure is not None
            assert failure.type_name == "FileExistsError"
        supervisor.end()
    assert (tmp_path / "state/ran").read_text() == "ran\n"


def test_what_cannot_be_started_ends_at_once_and_is_noted(line, supervisor):
    line.send(Spawn("job", (b"no-such-program",), "no-such-program", "/", {}))
    outcome = line.outcome("job")
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.type_name) == (
        "FAILED",
        "FileNotFoundError",
    )
    assert supervisor.output("job") == {"stdout": b"", "stderr": b""}


def test_starts_that_are_refused_leave_nothing_behind(line, supervisor):
    line.spawn("job", "exit 0")
    line.wait_for(Spawned)
    line.outcome("job")
    held = Path(f"/proc/{supervisor.process.pid}/fd")
    before = len(list(held.iterdir()))
    for _ in range(20):
        line.spawn("job", "exit 0")
        failure = line.wait_for(Spawned).failure
        assert failure is not None
        assert failure.type_name == "FileExistsError"
    assert len(list(held.iterdir())) <= before + 2  # a control group may be new
