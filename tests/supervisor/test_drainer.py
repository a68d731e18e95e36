"""A job's drainer, in this process: pipes, a journal and a line, all real."""

import os
import socket

import pytest

from mlepool.config import Limits
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.drainer import BREATH, Drainer
from mlepool.supervisor.notes import Notes
from mlepool.supervisor.processes import boot_id
from mlepool.supervisor.recorder import Recorder

PARTS = 5


@pytest.fixture
def recorder(tmp_path):
    head = JobHead("job", "yes", "/", 1.0, boot_id())
    recorder = Recorder(tmp_path, head, Limits(), disk_size=0)
    recorder.begin(JobProcess(os.getpid(), (1, 1), 1.0))
    return recorder


@pytest.mark.parametrize("is_unread", [False, True])
def test_it_rests_between_turns_while_nobody_reads(recorder, monkeypatch, is_unread):
    rests = []

    def rest(seconds):
        rests.append(seconds)
        if len(rests) < PARTS:
            os.write(theirs, b"x" * 4096)
        elif len(rests) == PARTS:
            os.close(theirs)

    monkeypatch.setattr("time.sleep", rest)
    ours, theirs = os.pipe()
    os.write(theirs, b"x" * 4096)
    if not is_unread:
        os.close(theirs)
    notes = Notes.shared()
    notes.is_unread = is_unread
    line, other = socket.socketpair()
    with line, other:
        Drainer({ours: 1}, recorder, notes, line=line).run()
    os.close(ours)
    assert notes.is_done
    assert notes.offsets[1] == (PARTS * 4096 if is_unread else 4096)
    assert set(rests) == ({BREATH} if is_unread else set())
