"""mlepool jobs: a table for people, JSON for machines."""

import io
import json
import sys

import pytest

import mlepool as package
from mlepool.cli.jobs import table
from tests.cli.shell import mlepool
from tests.tools import refusing_port

pytestmark = pytest.mark.real


@pytest.fixture
def job(conn):
    """A job that runs for the length of a test."""
    live = conn.run("echo on; exec sleep 60", complete=False, detach=True)
    yield live
    live.stop("SIGKILL")


def test_it_lists_what_runs_here_and_with_all_what_has_ended(worker, job, conn):
    ended = conn.run("exit 3").id
    done = mlepool("jobs")
    assert (done.status, done.err) == (0, "")
    head, _, *rows = done.out.splitlines()
    assert head.split()[:4] == ["id", "host", "status", "exit"]
    row = next(row.split() for row in rows if row.startswith(job.id))
    assert row[1:3] == [f"localhost:{worker.port}", "RUNNING"]
    assert done.out.isascii()
    assert "\x1b" not in done.out
    assert ended not in done.out
    rows = mlepool("jobs", "--all").out.splitlines()
    row = next(row.split() for row in rows if row.startswith(ended))
    assert row[2:4] == ["FAILED", "3"]


def test_at_a_terminal_the_table_is_as_wide_as_that(conn, job, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "stdout", Screen())
    with conn.run(f"sleep 60; {'x' * 200}", complete=False) as long:
        told = [("h", one) for one in conn.jobs().value]
        assert max(map(len, table(told).splitlines())) == 140
        long.stop("SIGKILL")


class Screen(io.StringIO):
    """What is printed to a terminal."""

    def isatty(self) -> bool:
        return True


def test_json_has_all_facts(here, job, conn):
    ended = conn.run("kill -9 $$", cwd="/").id
    done = here("jobs", "--all", "--json")
    facts = {one["id"]: one for one in json.loads(done.out)}
    running = facts[job.id]
    assert running["status"] == "RUNNING"
    assert running["exit_code"] is running["ended"] is None
    assert running["pid"] > 1
    assert running["command"] == "echo on; exec sleep 60"
    assert facts[ended]["exit_code"] == -9
    assert facts[ended]["ended"] >= facts[ended]["started"]
    assert facts[ended]["cwd"] == "/"


def test_what_a_command_is_called_steers_no_terminal(host, here, conn):
    job_id = conn.run("true '\x1b[2J\n\r'").id
    rows = here("jobs", "-H", host, "--all").out.splitlines()
    row = next(row for row in rows if row.startswith(job_id))
    assert row.endswith(r"true '\x1b[2J\n\r'")


def test_a_host_that_is_not_there_is_told_of_and_the_others_are_listed(host, here, job):
    with refusing_port() as port:
        done = here("jobs", "-H", f"{host},localhost:{port}")
    assert done.status == 255
    assert job.id in done.out
    assert done.err.startswith(f"mlepool: cannot connect to localhost:{port}: ")


@pytest.mark.usefixtures("elsewhere")
def test_a_local_worker_that_was_killed_is_told_of_and_no_failure(start_worker, here):
    running, killed = start_worker("running"), start_worker("killed")
    killed.process.kill()
    killed.process.wait()
    done = here("jobs")
    assert (done.status, done.out) == (0, "no job runs; see --all\n")
    assert str(killed.state_dir) in done.err
    assert str(running.state_dir) not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.usefixtures("elsewhere")
def test_where_no_worker_is_known_it_says_so(here):
    done = here("jobs")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "mlepool: no worker of this account runs on this machine; name hosts with -H, "
        "or all that are known with -H '*'\n"
    )


def test_it_says_when_there_is_nothing_to_list(start_worker, here):
    host = f"localhost:{start_worker('idle').port}"
    assert here("jobs", "-H", host) == (0, "no job runs; see --all\n", "")
    assert here("jobs", "-H", host, "--all") == (0, "no job is known\n", "")
    assert here("jobs", "-H", host, "--json") == (0, "[]\n", "")
    none = f"mlepool: there is no job 'dead' on {host}; there is none at all\n"
    assert here("stop", "dead", "-H", host) == (1, "", none)
    with package.ClientPool() as pool, pool.add(host) as conn:
        conn.run("true")
    assert here("jobs", "-H", host) == (0, "no job runs; see --all\n", "")


def test_what_waits_in_line_is_asked_for_shown_and_stopped(here, start_worker):
    busy = start_worker("busy", MLEPOOL_MAX_CONCURRENT="1")
    to = ("-H", f"localhost:{busy.port}")
    assert here("run", *to, "--detach", "exec sleep 60").status == 0
    done = here("run", *to, "--detach", "--priority", "3", "echo later")
    host = f"localhost:{busy.port}"
    assert done.err == "mlepool: it waits in line: place 1\n"
    job_id = done.out.split()[-1]
    refused = here("run", *to, "--no-queue", "echo now")
    assert (refused.status, refused.out) == (75, "")
    assert "all slots (1) are taken" in refused.err
    none = here("run", *to, "--gpus", "99", "echo never")
    assert (none.status, none.out) == (1, "")
    assert "gpus=99" in none.err
    (waiting,) = [
        row for row in here("jobs", *to).out.splitlines() if row.startswith(job_id)
    ]
    assert waiting.split()[1:4] == [host, "PENDING", "1"]
    (_, facts) = json.loads(here("jobs", *to, "--json").out)
    assert (facts["place"], facts["priority"], facts["gpus"]) == (1, 3, [])
    stopped = here("stop", *to, job_id)
    text = f"job {job_id} on {host}: waited in line, and will not begin (STOPPED)\n"
    assert (stopped.status, stopped.out) == (0, text)
    with package.ClientPool() as pool, pool.add(host) as conn:
        for one in conn.jobs().value:
            conn.stop(one.id, signal="SIGKILL")


@pytest.mark.usefixtures("elsewhere")
def test_a_host_that_does_not_tell_of_its_jobs_is_no_end_of_the_others(
    worker, other_worker, here
):
    urls = []
    for running, role in ((worker, "view"), (other_worker, "sync")):
        place = ("--state-dir", str(running.state_dir))
        what = ("--name", f"only-{role}", "--role", role)
        to = ("--host", f"localhost:{running.port}")
        urls.append(here("token", "create", *place, *what, *to).out.strip())
    done = here("jobs", "--all", "--json", "-H", ",".join(urls))
    assert done.status == 255
    assert {one["host"] for one in json.loads(done.out)} <= {f"localhost:{worker.port}"}
    assert done.err.startswith(f"mlepool: localhost:{other_worker.port}: ")
    assert "needs the role 'view'" in done.err
