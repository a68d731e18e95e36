"""What is said of a job that was not found, where not all hosts could be asked."""

import asyncio
import types
from collections.abc import Sequence

import pytest

from mlepool.cli.lookup import JobLookupError
from mlepool.cli.reach import Reached, UnsureError
from mlepool.errors import ConnectionLostError
from mlepool.wire.values import JobInfo

NOWHERE = "127.0.0.1:1"
REFUSED = f"mlepool: cannot connect to {NOWHERE}: connection refused; "


class Worker:
    """A connection to a worker that lists its jobs, and may be lost at a question."""

    def __init__(self, name: str, *jobs: str, lost_at: str = "") -> None:
        self.name = name
        self._jobs = [JobInfo(job_id, "make", 7, 0.0) for job_id in jobs]
        self._lost_at = lost_at

    async def jobs(self, *, raise_error):
        self._ask("jobs")
        return types.SimpleNamespace(value=self._jobs)

    async def attach(self, job_id):
        self._ask("attach")
        raise LookupError(job_id)

    def _ask(self, question: str) -> None:
        if question == self._lost_at:
            raise ConnectionLostError(self.name, "the link broke")


def error_of(workers: list[Worker], *texts: str, silent: Sequence[str] = ()):
    """Look for jobs in vain, or for the latest; what comes of it."""
    reached = Reached(workers, list(silent))  # type: ignore[arg-type]
    with pytest.raises(LookupError) as caught:
        asyncio.run(reached.find(texts) if texts else reached.latest())
    return caught.value


@pytest.mark.real
@pytest.mark.parametrize("command", ["attach", "stop", "logs"])
def test_where_nobody_could_be_asked_it_is_not_known_if_there_is_such_a_job(
    command, here
):
    done = here(command, "80b7", "-H", NOWHERE)
    assert (done.status, done.out) == (255, "")
    refused, why = done.err.splitlines()
    assert refused.startswith(REFUSED)
    assert why == (
        f"mlepool: nobody could be asked for job '80b7'; it may be on {NOWHERE}"
    )


@pytest.mark.real
@pytest.mark.parametrize("command", ["attach", "stop", "logs"])
def test_a_job_that_is_not_with_some_may_be_with_those_who_are_silent(
    command, here, conn
):
    host = conn.name
    job_id = conn.run("echo candidate").id
    done = here(command, "80b7", "-H", f"{NOWHERE},{host}")
    assert (done.status, done.out) == (255, "")
    assert f"\nmlepool: there is no job '80b7' on {host}; " in done.err
    assert f"it may be on {NOWHERE}, which could not be asked; there are:" in done.err
    assert f"  {job_id} {host} SUCCEEDED echo candidate\n" in done.err


@pytest.mark.real
def test_a_job_that_was_found_needs_nobody_else(host, here, conn):
    job_id = conn.run("echo found").id
    done = here("logs", job_id, "-H", f"{NOWHERE},{host}")
    assert (done.status, done.out) == (0, "found\n")
    assert done.err.startswith(REFUSED)


@pytest.mark.real
def test_the_latest_job_of_silent_hosts_is_not_known(here):
    done = here("logs", "-H", NOWHERE)
    assert (done.status, done.out) == (255, "")
    none = f"mlepool: no job is known; {NOWHERE} could not be asked"
    assert done.err.splitlines()[1:] == [none]


@pytest.mark.parametrize("question", ["jobs", "attach"])
def test_who_is_lost_while_it_is_asked_may_have_the_job(question, capsys):
    workers = [Worker("gpu1"), Worker("gpu2", lost_at=question)]
    error = error_of(workers, "ab")
    assert type(error) is UnsureError
    assert str(error) == (
        "there is no job 'ab' on gpu1; it may be on gpu2, which could not be asked"
    )
    assert capsys.readouterr().err.startswith("mlepool: gpu2: lost the connection")
    # Nobody else was asked: that it has a job that is not meant does not count.
    alone = error_of([Worker("gpu2", "cd", lost_at=question)], "ab")
    assert str(alone) == "nobody could be asked for job 'ab'; it may be on gpu2"


def test_where_all_were_asked_there_is_no_such_job():
    workers = [Worker("gpu1", "cd"), Worker("gpu2")]
    error = error_of(workers, "ab")
    assert type(error) is JobLookupError
    assert str(error) == (
        "there is no job 'ab' on gpu[1-2]; there are:\n  cd gpu1 RUNNING make"
    )
    assert str(error_of([Worker("gpu1")])) == "no job is known there"


def test_what_several_may_be_is_an_error_whoever_is_silent():
    error = error_of([Worker("gpu1", "ab1", "ab2")], "ab", silent=["gpu2"])
    assert type(error) is JobLookupError
    assert str(error).startswith("'ab' may be any of 2 jobs; give more of its id")
