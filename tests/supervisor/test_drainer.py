"""A job's drainer, in this process: pipes, a journal and a line, all real."""

import fcntl
import os
import socket
import time

import pytest

from mlepool.config import Limits
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.drainer import BUSY, CALLED_OFF, REST, SMALL_PART, Drainer
from mlepool.supervisor.notes import Notes
from mlepool.supervisor.processes import boot_id
from mlepool.supervisor.recorder import Recorder

HELD = 3 * SMALL_PART  # bytes, in a pipe that is full
NOW = 1000.0


@pytest.fixture
def recorder(tmp_path):
    head = JobHead("job", "yes", "/", 1.0, boot_id())
    recorder = Recorder(tmp_path, head, Limits(), disk_size=0)
    recorder.begin(JobProcess(os.getpid(), (1, 1), 1.0))
    return recorder


@pytest.fixture
def full():
    """A pipe that holds much, and that nobody writes to any more."""
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, HELD)
    os.write(theirs, b"x" * HELD)
    os.close(theirs)
    yield ours
    os.close(ours)


@pytest.mark.parametrize(
    ("is_unread", "ago", "turns"),
    [(False, 0, 0), (True, 0, 3), (True, BUSY, 0)],
    ids=["a reader", "no reader", "no reader and nothing else"],
)
def test_others_go_first(recorder, full, *, is_unread, ago, turns):
    taken = [0]

    def rest(seconds):
        assert seconds == REST
        taken.append(recorder.position)

    notes = Notes.shared()
    notes.is_unread, notes.busy = is_unread, NOW - ago
    line, other = socket.socketpair()
    with line, other, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", rest)
        patch.setattr("time.monotonic", lambda: NOW)
        Drainer({full: 1}, recorder, notes, line=line).run()
    assert notes.is_done
    assert notes.offsets[1] == HELD
    assert len(set(taken)) - 1 == turns


def test_who_is_called_off_takes_all_at_once(recorder, full, monkeypatch):
    rests: list[float] = []
    monkeypatch.setattr("time.sleep", rests.append)
    notes = Notes.shared()
    notes.is_unread, notes.busy = True, time.monotonic()
    line, other = socket.socketpair()
    with line, other:
        other.send(CALLED_OFF)
        Drainer({full: 1}, recorder, notes, line=line).run()
    assert notes.offsets[1] == HELD
    assert len(rests) == 1
