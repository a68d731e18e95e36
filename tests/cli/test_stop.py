"""mlepool stop: jobs are dead, and it says how."""

import json
import re

import pytest

from tests.conftest import command_line, processes

pytestmark = pytest.mark.real


def is_running(text: str) -> bool:
    return any(text in command_line(pid) for pid in processes())


def test_it_stops_the_whole_tree_and_says_what_was_signalled(here, conn, tmp_path):
    stamp = str(tmp_path)
    command = f"setsid sh -c 'while sleep 0.1; do :; done' {stamp} & echo on; wait"
    live = conn.run(command, complete=False)
    live.next()
    done = here("stop", live.id)
    assert (done.status, done.err) == (0, "")
    head = f"job {live.id} on localhost:[0-9]+: all dead after [0-9.]+ s: "
    assert re.match(rf"{head}SIGINT to \d+ \(", done.out)
    assert not is_running(stamp)
    assert live.wait().status == "STOPPED"


def test_several_jobs_by_how_their_ids_begin_and_one_that_had_ended(host, here, conn):
    first, second = (conn.run("exec sleep 60", complete=False) for _ in range(2))
    ended = conn.run("true")
    texts = [first.id[:9], second.id[:9], ended.id]
    done = here("stop", "-H", host, *texts, "--signal", "kill")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("SIGKILL to ") == 2
    assert f"job {ended.id} on {host}: had ended before (SUCCEEDED)\n" in done.out
    assert first.wait().signal == second.wait().signal == 9


def test_who_ignores_the_first_signal_gets_the_next_after_the_grace(host, here, conn):
    command = "trap '' INT; echo on; exec python3 -c 'import time; time.sleep(60)'"
    live = conn.run(command, complete=False)
    live.next()
    done = here("stop", "-H", host, live.id, "--grace", "0.1")
    assert done.status == 0
    assert "SIGTERM to " in done.out


@pytest.mark.parametrize("option", ["--signal=FOO", "--signal=99", "--grace=-1"])
def test_what_makes_no_sense_stops_nothing(option, here, conn):
    live = conn.run("exec sleep 60", complete=False)
    done = here("stop", live.id, option)
    assert done.status in (1, 2)
    assert done.out == ""
    assert done.err
    assert "Traceback" not in done.err
    assert live.status == "RUNNING"
    live.stop("SIGKILL")


def test_a_job_that_is_none_is_an_error_that_names_what_there_is(host, here, conn):
    job_id = conn.run("echo candidate").id
    done = here("stop", "-H", host, "0123")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool: there is no job '0123' on {host}; there are:")
    assert f"  {job_id} {host} SUCCEEDED echo candidate\n" in done.err


def test_all_jobs_of_hosts_are_stopped_only_if_the_hosts_are_named(other, here):
    for _ in range(2):
        here("run", "-H", other, "--detach", "exec sleep 60")
    for arguments in ((), ("--all",), ("--all", "-H", other, "5f3a")):
        done = here("stop", *arguments)
        assert (done.status, done.out) == (2, "")
        assert "name jobs, or hosts with --all" in done.err
    done = here("stop", "--all", "-H", other, "--signal", "KILL", "--json")
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 0
    assert [one["complete"] for one in reports[:2]] == [True, True]
    assert reports[0]["host"] == other
    assert reports[0]["signalled"][0]["signal"] == "SIGKILL"
    assert here("stop", "--all", "-H", other) == (0, "", "")
    assert here("stop", "--all", "-H", f"{other},localhost:1").status == 255
    assert here("logs", "-H", f"{other},localhost:1").status == 255
