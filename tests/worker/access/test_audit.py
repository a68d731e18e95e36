"""The audit log: a line each, rotated, and what becomes of it on a full disk."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from mlepool.worker.access.audit import (
    AUDIT_FILE,
    AUDIT_FOLDER,
    FILES,
    LOOK_EVERY,
    MAX_NOTED,
    MAX_WORDS,
    AuditLog,
    facts_of,
    in_words,
    read_audit,
)
from tests.needs import small_disk


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path, size=1 << 20, clock=lambda: 1_000_000.5)
    yield log
    log.close()


def lines(state: Path) -> list[dict[str, Any] | None]:
    return list(read_audit(state))


def the_file(state: Path) -> Path:
    return state / AUDIT_FOLDER / AUDIT_FILE


def test_a_line_is_an_object_with_time_and_event(log, tmp_path):
    log.write("accepted", token="ci", argv=["a", "b"], cwd=None)
    text = the_file(tmp_path).read_text()
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "time": "1970-01-12T13:46:40.500+00:00",
        "event": "accepted",
        "token": "ci",
        "argv": ["a", "b"],
    }
    assert the_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert the_file(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_what_is_no_text_is_no_reason_not_to_write_it_down(log, tmp_path):
    log.write("accepted", cwd="/\udcff", thing=object)
    (line,) = lines(tmp_path)
    assert line is not None
    assert "'/\\udcff'" in line["text"]


def test_two_may_write_at_once(log, tmp_path):
    other = AuditLog(tmp_path, size=1 << 20)
    for number in range(3):
        log.write("one", number=number)
        other.write("other", number=number)
    other.close()
    events = [one["event"] for one in lines(tmp_path) if one]
    assert events == ["one", "other"] * 3


def test_what_may_wait_is_written_with_the_next_line(tmp_path):
    now = [1000.0]
    log = AuditLog(tmp_path, size=1 << 20, clock=lambda: now[0])
    log.note("first", reason=None)
    log.note("second")
    assert lines(tmp_path) == []
    now[0] += 5
    log.write("third")
    log.note("fourth")
    log.flush()
    log.flush()
    found = [one for one in lines(tmp_path) if one is not None]
    assert [one["event"] for one in found] == ["first", "second", "third", "fourth"]
    assert [one["time"][17:19] for one in found] == ["40", "40", "45", "45"]
    for _ in range(MAX_NOTED):
        log.note("many")
    assert len(lines(tmp_path)) == 4 + MAX_NOTED
    log.note("last")
    log.close()
    assert len(lines(tmp_path)) == 5 + MAX_NOTED


def test_what_waits_is_written_as_it_was_when_it_was_noted(log, tmp_path):
    argv = ["first"]
    log.note("ended", argv=argv)
    argv[0] = "then"
    log.write("accepted", argv=argv)
    assert [line and line["argv"] for line in lines(tmp_path)] == [["first"], ["then"]]


def test_no_log_is_written_where_none_is_wanted(tmp_path):
    log = AuditLog(tmp_path, size=0)
    log.write("accepted")
    log.note("ended")
    log.close()
    assert not (tmp_path / AUDIT_FOLDER).exists()
    assert lines(tmp_path) == []


def test_the_oldest_part_goes_and_the_rest_stays_in_order(tmp_path):
    log = AuditLog(tmp_path, size=FILES * 1000)
    for number in range(300):
        log.write("accepted", number=number)
    log.close()
    files = sorted((tmp_path / AUDIT_FOLDER).iterdir())
    assert len(files) == FILES
    assert all(one.stat().st_size <= 1000 for one in files)
    numbers = [one["number"] for one in lines(tmp_path) if one]
    assert numbers == list(range(numbers[0], 300))
    assert numbers[0] > 0


def test_a_log_that_was_moved_away_is_begun_anew(tmp_path):
    now = [1000.0]
    log = AuditLog(tmp_path, size=1 << 20, clock=lambda: now[0])
    log.write("before")
    the_file(tmp_path).unlink()
    now[0] += LOOK_EVERY
    log.write("after")
    log.close()
    assert [one["event"] for one in lines(tmp_path) if one] == ["after"]


def test_a_torn_line_spoils_no_other(tmp_path):
    first = AuditLog(tmp_path, size=1 << 20)
    first.write("one")
    first.close()
    with open(the_file(tmp_path), "ab") as file:
        file.write(b'{"time": "19')
    second = AuditLog(tmp_path, size=1 << 20)
    second.write("two")
    second.close()
    found = [one and one["event"] for one in lines(tmp_path)]
    assert found == ["one", None, "two"]


@pytest.mark.real
def test_on_a_full_disk_work_goes_on_and_the_log_says_what_lacks(tmp_path, caplog):
    with small_disk(tmp_path / "disk", "64k") as disk:
        log = AuditLog(disk, size=1 << 20)
        log.write("before")
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 512)
        for _ in range(50):
            log.note("lacking", text="x" * 100)
            log.write("lacking", text="x" * 100)
        filler.unlink()
        log.write("after")
        log.close()
        found = [one for one in lines(disk) if one is not None]
    assert [found[0]["event"], found[-1]["event"]] == ["before", "after"]
    lost = next(one for one in found if one["event"] == "lost")
    written = sum(one["event"] == "lacking" for one in found)
    assert lost["lines"] == 100 - written > 0
    errors = [one for one in caplog.records if one.levelname == "ERROR"]
    assert len(errors) == 1
    assert "work goes on" in errors[0].message


def test_a_log_that_cant_be_renamed_grows(tmp_path, caplog):
    log = AuditLog(tmp_path, size=FILES * 200)
    log.write("one")
    for number in range(1, FILES):
        (tmp_path / AUDIT_FOLDER / f"audit.{number}.jsonl" / "full").mkdir(parents=True)
    for _ in range(20):
        log.write("more")
    log.close()
    assert the_file(tmp_path).read_bytes().count(b"\n") == 21
    assert "grows" in caplog.text


def test_what_is_secret_does_not_get_in():
    arguments = {
        "job_id": "abc",
        "data": b"my password",
        "env": {"TOKEN": "hush"},
        "path": b"/data/\xff",
        "text": "the contents",
        "recursive": True,
    }
    assert facts_of(arguments, is_builtin=True) == {
        "job_id": "abc",
        "path": "/data/\\xff",
        "recursive": True,
    }
    assert facts_of(arguments, is_builtin=False) == {"arguments": sorted(arguments)}


def test_long_commands_are_cut():
    assert in_words([b"a", "b\udcff"]) == ["a", "b\\xff"]
    cut = in_words([b"x" * (MAX_WORDS - 1), b"yz", b"more"])
    assert cut == ["x" * (MAX_WORDS - 1), "y..."]
    assert in_words([b"x" * MAX_WORDS]) == ["x" * MAX_WORDS]
