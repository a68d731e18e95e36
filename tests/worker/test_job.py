"""One job, as a worker knows it."""

import pytest

from mlepool.worker.job import TRANSITIONS, Job, Status


def test_no_job_leaves_a_final_state(tmp_path):
    final = set(Status) - {Status.PENDING, Status.RUNNING}
    for status in Status:
        for other in Status:
            job = Job("job", "", folder=tmp_path)
            job.status = status
            allowed = (status, other) in TRANSITIONS
            assert not (status in final and allowed)
            if allowed:
                job.become(other)
                assert job.status is other
            else:
                with pytest.raises(KeyError):
                    job.become(other)


def test_news_of_a_job_are_read_without_its_file(tmp_path):
    job = Job("job", "", folder=tmp_path / "not there")
    job.position, job.fresh = 100, b"0123456789"
    assert (job.after_gap(90), job.piece(90, 10)) == (90, None)
    assert job.read(90, 10) == b"0123456789"
    assert job.read(95, 3) == b"567"
    for position in (89, 100):
        with pytest.raises(LookupError):
            job.after_gap(position)
        with pytest.raises(LookupError):
            job.read(position, 1)


def test_a_new_job_is_pending_and_says_what_is_known(tmp_path):
    info = Job("job", "echo hi", folder=tmp_path).info()
    assert (info.id, info.command, info.pid, info.position) == ("job", "echo hi", 0, 0)
    assert info.outcome is None
