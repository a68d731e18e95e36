"""Jobs of a real worker that are not in memory any more, or not yet."""

import os
from typing import Any

import pytest

import mlepool
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.wire.messages import Outcome
from mlepool.worker.known import MAX_JOB_ID, MAX_RECENT, KnownJobs, check_job_id
from tests.conftest import RunningWorker


def connected(worker: RunningWorker) -> mlepool.Connection:
    return mlepool.ClientPool().add(f"unix:{worker.state_dir}")


@pytest.mark.real
def test_jobs_beyond_those_in_memory_are_read_from_disk(own_worker):
    with connected(own_worker) as conn:
        first = conn.run("echo first; exit 7")
        for _ in range(MAX_RECENT):
            conn.run(["true"])
        listing = conn.jobs().value
        assert len(listing) == MAX_RECENT
        assert first.id not in [one.id for one in listing]
        again = conn.attach(first.id).wait()
        assert (again.output, again.exit_code) == ("first\n", 7)


@pytest.mark.real
def test_a_worker_that_begins_anew_lists_what_has_ended(start_worker):
    first = start_worker("again")
    with connected(first) as conn:
        ids = [conn.run(f"exit {code}").id for code in range(3)]
    first.end()
    with connected(start_worker("again")) as conn:
        listed = {one.id: one.outcome.exit_code for one in conn.jobs().value}
        assert listed == dict(zip(ids, range(3), strict=True))


@pytest.mark.parametrize("odd", ["", "../x", "a b", "a.b", "é", "x" * (MAX_JOB_ID + 1)])
def test_what_is_no_job_id_names_no_file(tmp_path, odd):
    for look in (check_job_id, KnownJobs(tmp_path, ended=print).find):
        with pytest.raises(LookupError, match="is not a job id"):
            look(odd)
    check_job_id("x" * MAX_JOB_ID)


def test_a_job_that_nobody_holds_ends_as_its_journal_says(tmp_path):
    ends: list[Any] = []
    jobs = KnownJobs(tmp_path, ended=ends.append)
    for job_id in ("whole", "torn", "none"):
        jobs.add(jobs.make(job_id, "exit 3"))
    for job_id in ("whole", "torn"):
        writer = JournalWriter(tmp_path, JobHead(job_id, "exit 3", "/", 1.0))
        writer.begin(JobProcess(0, (0, 0), 1.0))
        if job_id == "whole":
            writer.finish(Outcome("FAILED", exit_code=3))
        os.close(writer.release())
    for job in jobs.current():
        jobs.rejoin(job)
    found: dict[str, Any] = {
        job_id: jobs.find(job_id).outcome for job_id in ("whole", "torn", "none")
    }
    assert (found["whole"].status, found["whole"].exit_code) == ("FAILED", 3)
    assert found["torn"].reason == "its supervisor was killed"
    assert (found["none"].status, found["none"].reason) == (
        "LOST",
        "there is no job none",
    )
    assert len(ends) == 3
    assert jobs.current() == []
    assert [info.id for info in jobs.listing()] == ["whole", "torn", "none"]
