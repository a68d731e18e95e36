import time
import typing

import msgspec
import pytest

from mlepool.wire.messages import Outcome
from mlepool.wire.values import (
    VALUE_TYPES,
    InputAck,
    JobInfo,
    Signalled,
    StopReport,
    Survivor,
)

ENDED = Outcome("FAILED", 3, started=100.0, ended=102.5)


def test_a_running_job_says_so_and_gets_older():
    job = JobInfo("id", "sleep 9", 4711, started=time.time() - 5)
    assert job.status == "RUNNING"
    assert 5 <= job.duration < 60


def test_a_job_of_a_clock_that_was_set_back_has_no_negative_age():
    assert JobInfo("id", "sleep 9", 4711, started=time.time() + 1000).duration == 0.0


def test_an_ended_job_tells_how_and_how_long():
    job = JobInfo("id", "false", 4711, started=100.0, outcome=ENDED)
    assert job.status == "FAILED"
    assert job.duration == 2.5


def test_a_job_reads_as_a_line():
    job = JobInfo("5f3a", "false", 4711, started=100.0, outcome=ENDED)
    assert str([job]) == "[<Job 5f3a FAILED 2.5 s: 'false'>]"
    assert len(str(JobInfo("5f3a", "x" * 1000, 1, 0.0))) < 120


def test_a_stop_is_complete_if_nothing_survived():
    assert StopReport("id", "STOPPED").complete
    survivors = (Survivor(1, "init", "not ours"),)
    assert not StopReport("id", "STOPPED", survivors=survivors).complete


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (
            "StopReport",
            StopReport("id", "STOPPED", (Signalled("SIGINT", 7, "x", 0.5),)),
        ),
        ("InputAck", InputAck(5, closed=True)),
        (
            "list[JobInfo]",
            [JobInfo("id", "true", 1, 2.0, outcome=ENDED), JobInfo("i", "", 0, 0.0)],
        ),
    ],
)
def test_values_come_back_as_their_own_type(name, value):
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    assert msgspec.convert(plain, VALUE_TYPES[name]) == value


def test_values_are_named_as_annotations_read():
    for name, kind in VALUE_TYPES.items():
        inner = typing.get_args(kind)
        text = f"{kind.__name__}[{inner[0].__name__}]" if inner else kind.__name__
        assert text == name


@pytest.mark.parametrize("kind", [JobInfo, StopReport, Signalled, Survivor, InputAck])
def test_values_grow_by_appending_like_messages(kind):
    config = kind.__struct_config__
    assert config.frozen
    assert config.array_like


def test_a_stop_reads_as_a_line():
    signalled = (Signalled("SIGINT", 7, "x"), Signalled("SIGKILL", 7, "x", 0.5))
    report = StopReport("id", "STOPPED", signalled, seconds=0.54)
    sent = "SIGINT, SIGKILL to 1 process"
    assert str(report) == f"<StopReport id: STOPPED; {sent}; nothing is left; 0.5 s>"
    left = StopReport("id", "STOPPED", survivors=(Survivor(8, "a\x1b[2J"),))
    assert "; nothing to signal; still alive: 8 'a\\x1b[2J'; " in repr(left)
