"""Which jobs are open, as the next who opens the file finds it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mlepool.supervisor.ledger import FIRST, LEDGER_FILE, MAGIC, MAX_LEFT, Ledger
from tests.needs import small_disk

LONGEST = "x" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    ledger.keep([])
    yield ledger
    ledger.close()


def enter(ledger: Ledger, *job_ids: str) -> None:
    for job_id in job_ids:
        assert ledger.enter(job_id)


def found(folder: Path) -> list[str] | None:
    """Give what a next one finds; the order says nothing."""
    with contextlib.closing(Ledger(folder)) as ledger:
        return None if ledger.found is None else sorted(ledger.found)


def test_a_new_one_knows_nothing_before_it_is_kept(tmp_path):
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        assert ledger.found is None
        assert found(tmp_path) is None
        ledger.keep(["b", LONGEST])
        assert found(tmp_path) == ["b", LONGEST]


def test_what_was_entered_and_did_not_leave_is_found(ledger, tmp_path):
    enter(ledger, "a", "b", "c", LONGEST)
    ledger.leave("b")
    ledger.leave("nobody")
    assert found(tmp_path) == ["a", "b", "c", LONGEST]
    enter(ledger, "d")
    assert found(tmp_path) == ["a", "c", "d", LONGEST]


def test_what_is_open_is_not_entered_again(ledger, tmp_path):
    assert ledger.enter("job")
    assert not ledger.enter("job")
    assert found(tmp_path) == ["job"]


@pytest.mark.parametrize("count", [MAX_LEFT, MAX_LEFT + 1])
def test_of_those_that_left_few_are_in_it_and_none_after_its_end(tmp_path, count):
    jobs = [f"job-{number}" for number in range(count)]
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        ledger.keep([])
        enter(ledger, "open", *jobs)
        for job_id in jobs:
            ledger.leave(job_id)
        assert len(found(tmp_path) or ()) == 1 + MAX_LEFT
    assert found(tmp_path) == ["open"]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_it_holds_what_is_open_and_does_not_grow_with_what_was(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ledger")
    kept = [f"kept-{number}" for number in range(data.draw(st.integers(0, FIRST + 2)))]
    ids = st.integers(0, 3 * FIRST).map("job-{}".format)
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.keep(kept)
        is_open, most = set(kept), len(kept)
        for job_id in data.draw(st.lists(ids, max_size=200)):
            if job_id in is_open:
                ledger.leave(job_id)
            else:
                enter(ledger, job_id)
            is_open ^= {job_id}
            most = max(most, len(is_open))
    assert found(folder) == sorted(is_open)
    assert (folder / LEDGER_FILE).stat().st_size <= max(FIRST, most + 2) * len(MAGIC)


def test_keeping_takes_no_room_that_was_not_its_own(ledger, tmp_path):
    enter(ledger, *(f"job-{number}" for number in range(3 * FIRST)))
    with contextlib.closing(Ledger(tmp_path)) as second:
        second.keep(["job-7"])
    assert found(tmp_path) == ["job-7"]
    assert (tmp_path / LEDGER_FILE).stat().st_size == 4096


@pytest.mark.real
def test_on_a_full_disk_it_is_not_believed_and_a_job_is_refused(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        with open(disk / "hog", "ab", 0) as hog, contextlib.suppress(OSError):
            while True:
                hog.write(bytes(4096))
        with contextlib.closing(Ledger(disk)) as ledger:
            ledger.keep(["stray"])
            assert found(disk) is None
            with pytest.raises(OSError, match="No space"):
                ledger.enter("job")
            os.truncate(disk / "hog", 0)
            enter(ledger, "job")
        assert found(disk) is None


@pytest.mark.parametrize("damage", [b"", b"\0", MAGIC[:-1], b"x" + MAGIC])
def test_what_is_damaged_is_not_believed(ledger, tmp_path, damage):
    enter(ledger, "job")
    (tmp_path / LEDGER_FILE).write_bytes(damage)
    assert found(tmp_path) is None
