"""Which job a text means."""

import pytest

from mlepool.cli.lookup import Found, JobLookupError, choose
from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import Target
from mlepool.wire.values import JobInfo


def job(job_id: str, host: str = "gpu1") -> Found:
    connection = AsyncConnection(Target(host, 9922))
    return Found(connection, job_id, JobInfo(job_id, "make", 7, 0.0))


JOBS = [job("ab12"), job("ab34"), job("ab3456"), job("cd", "gpu2")]


def test_an_id_or_the_only_beginning_of_one_is_the_job():
    assert choose("ab12", JOBS) is JOBS[0]
    assert choose("c", JOBS) is JOBS[3]
    # A whole id is meant even where others begin with it.
    assert choose("ab34", JOBS) is JOBS[1]


def test_what_nothing_begins_with_is_no_job():
    assert choose("x", JOBS) is None
    assert choose("ab123", JOBS) is None
    assert choose("", JOBS) is None


def test_what_several_begin_with_is_an_error_that_lists_them():
    with pytest.raises(JobLookupError) as caught:
        choose("ab", JOBS)
    assert str(caught.value) == (
        "'ab' may be any of 3 jobs; give more of its id:\n"
        "  ab12 gpu1 RUNNING make\n  ab34 gpu1 RUNNING make\n"
        "  ab3456 gpu1 RUNNING make"
    )


def test_one_id_on_two_hosts_needs_the_host():
    with pytest.raises(JobLookupError, match="2 jobs; name its host with -H"):
        choose("cd", [*JOBS, job("cd")])


def test_no_more_than_ten_are_listed():
    jobs = [job(f"a{number}") for number in range(12)]
    with pytest.raises(JobLookupError) as caught:
        choose("a", jobs)
    assert len(str(caught.value).splitlines()) == 12
    assert str(caught.value).endswith("and 2 more")
