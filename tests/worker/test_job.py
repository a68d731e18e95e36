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


def test_a_new_job_is_pending_and_says_what_is_known(tmp_path):
    info = Job("job", "echo hi", folder=tmp_path).info()
    assert (info.id, info.command, info.pid, info.position) == ("job", "echo hi", 0, 0)
    assert info.outcome is None
