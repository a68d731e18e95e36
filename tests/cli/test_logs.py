"""mlepool logs: what a job has printed, from its worker."""

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta

import pytest
import typer

from mlepool.cli.logs import read_since
from tests.cli.shell import LIMIT, MLEPOOL, interrupt, mlepool, running

pytestmark = pytest.mark.real

RAW = b"\xff\x00 odd \r\nno end"


def test_history_is_printed_as_the_job_wrote_it_also_while_it_runs(host, conn):
    script = f"import os,time; os.write(1, {RAW!r}); os.write(2, b'e'); time.sleep(60)"
    live = conn.run([sys.executable, "-c", script], complete=False)
    list(zip("oe", live.records(), strict=False))  # both have been written
    command = [*MLEPOOL, "logs", live.id, "-H", host]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
    assert (done.stdout, done.stderr) == (RAW, b"e")
    assert live.status == "RUNNING"
    live.stop("SIGKILL")
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
    assert (done.stdout, done.stderr) == (RAW, b"e")


def test_following_goes_on_to_the_end(host, conn, tmp_path):
    go = tmp_path / "go"
    wait = f"until [ -e {go} ]; do sleep 0.02; done"
    live = conn.run(f"seq 3; echo e >&2; {wait}; echo last; exit 3", complete=False)
    with running("logs", "-f", "-H", host, "--tail", "1", live.id) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "e\n"
        go.touch()
        assert process.communicate(timeout=LIMIT) == ("last\n", "")
        assert process.returncode == 0  # it has done what it should


def test_ctrl_c_ends_the_following_and_not_the_job(host, conn):
    live = conn.run("echo on; exec sleep 60", complete=False)
    with running("logs", "-f", "-H", host, live.id) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        assert interrupt(process) == (130, "", "")
    assert live.status == "RUNNING"
    live.stop("SIGKILL")


def test_tail_since_stream_and_timestamps(host, conn, here):
    done = conn.run("seq 5; echo odd >&2; sleep 0.2; echo late")
    times = [time for time, _, data in done.records() if data == b"late\n"]
    call = ("logs", done.id, "-H", host)
    assert here(*call, "--tail", "2", "--stream", "stdout").out == "5\nlate\n"
    since = datetime.fromtimestamp(times[0] - 0.05).isoformat()
    assert here(*call, "--since", since) == (0, "late\n", "")
    assert here(*call, "--since", "1h", "--stream", "stderr") == (0, "", "odd\n")
    stamp, text = here(*call, "-t", "--tail", "1").out.split()
    assert text == "late"
    assert datetime.fromisoformat(stamp).timestamp() == pytest.approx(
        times[0], abs=0.01
    )


def test_a_job_that_ended_before_the_worker_began_anew_is_found(own_worker, here):
    host = f"localhost:{own_worker.port}"
    job_id = here("run", "-H", host, "--detach", "echo kept").out.split()[-1]
    assert here("attach", "-H", host, job_id).out == "kept\n"
    own_worker.end()
    own_worker.__init__(own_worker.state_dir.parent)
    host = f"localhost:{own_worker.port}"
    assert job_id in here("jobs", "--all", "-H", host).out
    assert here("logs", "-H", host, job_id[:8]) == (0, "kept\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Invalid value for JOB: name a job, or hosts"),
        (["a", "--since", "soon"], "Invalid value for --since: give 90s"),
        (["a", "--stream", "out"], "Invalid value for --stream: stdout or stderr"),
        (["a", "--tail", "-1"], "Invalid value for '--tail'"),
        (["a", "-f", "--state-dir", "/"], "Invalid value for --state-dir"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, complaint, here):
    done = here("logs", *arguments)
    assert (done.status, done.out) == (2, "")
    assert complaint in done.err


def test_times_are_so_long_ago_or_iso_8601():
    assert read_since("") == 0
    for text, ago in (("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)):
        assert read_since(text) == pytest.approx(time.time() - ago, abs=5)
    assert read_since("1970-01-02T00:00:00+00:00") == 86400
    local = datetime.now().replace(microsecond=0) - timedelta(hours=3)
    assert read_since(local.isoformat()) == local.timestamp()
    for text in ("10", "m", "-1m", "10m ago", "yesterday"):
        with pytest.raises(typer.BadParameter):
            read_since(text)


def test_a_reader_that_has_enough_ends_it_quietly_and_leaves_the_job(host, conn):
    live = conn.run("while echo x; do sleep 0.02; done", complete=False)
    with running("logs", "-f", "-H", host, live.id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 141
    assert live.status == "RUNNING"
    live.stop("SIGKILL")


def test_without_a_host_all_workers_of_this_machine_are_looked_through(worker, conn):
    done = conn.run("echo found")
    assert mlepool("logs", done.id[:10]) == (0, "found\n", "")


def test_of_several_hosts_the_latest_jobs_are_printed_with_their_names(
    host, other, here
):
    hosts = f"{host},{other}"
    here("run", "-H", hosts, "--", "echo $((1 + 1)); printf half; echo odd >&2")
    done = here("logs", "-w", hosts)
    assert done.status == 0
    assert sorted(done.out.splitlines()) == sorted(
        f"{name} | {text}" for name in (host, other) for text in ("2", "half")
    )
    assert sorted(done.err.splitlines()) == sorted([f"{host} | odd", f"{other} | odd"])
    done = here("logs", "-w", hosts, "--tail", "1", "--stream", "stdout")
    assert sorted(done.out.splitlines()) == sorted(
        [f"{host} | half", f"{other} | half"]
    )


def test_several_jobs_of_one_host_have_their_ids_too(host, here, conn):
    first, second = conn.run("echo one").id, conn.run("echo two").id
    done = here("logs", "-H", host, first, second)
    assert sorted(done.out.splitlines()) == sorted(
        [f"{host} {first} | one", f"{host} {second} | two"]
    )


def test_machines_get_an_object_for_each_line(host, here, conn):
    job = conn.run("echo one; echo two >&2")
    done = here("logs", "-H", host, "--json", job.id)
    one, two = sorted(map(json.loads, done.out.splitlines()), key=lambda it: it["text"])
    assert (one["host"], one["id"], one["text"]) == (host, job.id, "one")
    assert (two["stream"], two["text"]) == ("stderr", "two")
    assert abs(one["time"] - time.time()) < 60
    attached = here("attach", "-H", host, "--json", job.id)
    assert sorted(attached.out.splitlines()) == sorted(done.out.splitlines())
