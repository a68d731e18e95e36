"""mlepool audit: the log for people, and for programs."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from mlepool.config import write_private

LINES = [
    {"time": "2026-01-01T00:00:00.000+00:00", "event": "connected", "token": "ci"},
    {
        "time": "2026-01-02T00:00:00.000+00:00",
        "event": "accepted",
        "token": "ci",
        "token_id": "0" * 16,
        "address": "10.0.0.7:1",
        "argv": ["echo", "a b", "\x1b[31m"],
    },
    {"time": "2026-01-03T00:00:00.000+00:00", "event": "refused", "token": "local"},
]


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    """An empty state folder."""
    monkeypatch.setenv("MLEPOOL_STATE_DIR", str(tmp_path))
    folder: Path = tmp_path
    return folder


@pytest.fixture
def log(state: Path) -> Path:
    text = "".join(f"{json.dumps(one)}\n" for one in LINES)
    write_private(state / "audit" / "audit.jsonl", f"{text}damaged\n".encode())
    return state


def test_the_log_is_printed_for_people(here, log):
    done = here("audit")
    assert done.status == 0
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert " accepted [ci 10.0.0.7:1] " in lines[1]
    assert "argv=[echo 'a b' '\\x1b[31m']" in lines[1]
    assert done.err == "mlepool audit: 1 lines are damaged\n"


def test_what_nobody_did_names_nobody(here, state):
    line = {"time": "2026-01-01T00:00:00+00:00", "event": "lost", "lines": 2}
    write_private(state / "audit" / "audit.jsonl", f"{json.dumps(line)}\n".encode())
    assert here("audit").out.endswith(" lost lines=2\n")


def test_when_a_token_ends_is_a_time_for_people(here, state):
    line = {"time": "2026-01-01T00:00:00+00:00", "event": "token", "expires": 4e9}
    write_private(state / "audit" / "audit.jsonl", f"{json.dumps(line)}\n".encode())
    ends = here("audit").out.rpartition("=")[2]
    assert datetime.fromisoformat(ends.strip()).timestamp() == 4e9


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--since", "2026-01-02T00:00:00+00:00"], [1, 2]),
        (["--token", "ci"], [0, 1]),
        (["--token", "0" * 16], [1]),
        (["--event", "refused"], [2]),
        (["--event", "refused", "--token", "ci"], []),
    ],
)
@pytest.mark.usefixtures("log")
def test_the_log_is_filtered(here, words, numbers):
    done = here("audit", "--json", *words)
    found = [json.loads(one) for one in done.out.splitlines()]
    assert found == [LINES[number] for number in numbers]


@pytest.mark.usefixtures("log")
def test_a_kind_that_there_is_not_is_an_error(here):
    done = here("audit", "--event", "foo")
    assert (done.status, done.out) == (2, "")
    assert "there is no 'foo', but connected, accepted, refused" in done.err


def test_a_folder_without_a_log_is_one_line(here, state):
    done = here("audit")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"mlepool: there is no audit log in {state}\n"
