"""mlepool attach: all of a job from another process, and its exit status."""

import signal
import subprocess

import pytest

from tests.cli.shell import LIMIT, MLEPOOL, interrupt, mlepool, running
from tests.conftest import wait_until

pytestmark = pytest.mark.real


def test_a_job_whose_client_was_killed_is_read_from_its_first_byte(host, tmp_path):
    go = tmp_path / "go"
    wait = f"until [ -e {go} ]; do sleep 0.02; done"
    command = f"seq 5000; echo odd >&2; {wait}; echo last; exit 7"
    with running("run", "-H", host, "--", command) as first:
        assert first.stderr is not None
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
        first.wait()
    jobs = mlepool("jobs", "-H", host).out.splitlines()
    job_id = next(row.split()[0] for row in jobs if str(go) in row)
    numbers = "".join(f"{number}\n" for number in range(1, 5_001))
    with running("attach", job_id, "-H", host) as second:
        assert second.stderr is not None
        assert second.stderr.readline() == "odd\n"  # so it is live by now
        go.touch()
        out, err = second.communicate(timeout=LIMIT)
    assert (second.returncode, out, err) == (7, f"{numbers}last\n", "")
    # And once more, after its end, by the beginning of its id and without a host.
    assert mlepool("attach", job_id[:10]) == (7, f"{numbers}last\n", "odd\n")


def test_ctrl_c_detaches_and_says_how_to_come_back(host, conn):
    live = conn.run("echo on; exec sleep 60", complete=False)
    with running("attach", live.id, "-H", host) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = interrupt(process)
    assert done.status == 130
    again = f"mlepool attach {live.id} -H {host}"
    said = f"mlepool: job {live.id} goes on on {host}; come back with: {again}\n"
    assert done.err == said
    assert live.status == "RUNNING"
    live.stop("SIGKILL")


def test_a_reader_that_goes_away_leaves_the_job(host, conn):
    live = conn.run("while echo x; do sleep 0.02; done", complete=False)
    with running("attach", live.id, "-H", host) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 141
    assert live.status == "RUNNING"
    live.stop("SIGKILL")


@pytest.mark.parametrize(
    "case",
    [
        ("exit 3", {}, 3),
        ("kill -9 $$", {}, 128 + signal.SIGKILL),
        ("sleep 60", {"timeout": 0.1}, 128 + signal.SIGTERM),
        (["no-such-program"], {}, 127),
    ],
)
def test_it_exits_as_the_job_did(host, conn, case):
    command, options, status = case
    job_id = conn.run(command, complete=False, **options).id
    assert mlepool("attach", job_id, "-H", host).status == status


def test_what_a_job_wrote_is_left_as_it_is(host, conn):
    raw = b"\xff\x00 odd \r\n10%\r20%\rno end"
    job_id = conn.run(["printf", r"\377\000 odd \r\n10%%\r20%%\rno end"]).id
    command = [*MLEPOOL, "attach", job_id, "-H", host]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
    assert (done.stdout, done.stderr) == (raw, b"")


def test_an_offset_begins_there(host, conn, tmp_path):
    go = tmp_path / "go"
    live = conn.run(
        f"echo one; until [ -e {go} ]; do sleep 0.02; done; echo two", complete=False
    )
    live.next()
    offset = live.position
    go.touch()
    wait_until(lambda: live.wait().done)
    done = mlepool("attach", live.id, "-H", host, "--offset", str(offset))
    assert done == (0, "two\n", "")


def test_a_job_that_is_none_is_an_error(host, here):
    done = here("attach", "nobody", "-H", host)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool: there is no job 'nobody' on {host}")


def test_several_jobs_are_followed_and_the_worst_status_counts(host, other, here):
    hosts = f"{host},{other}"
    begun = here("run", "-H", hosts, "--detach", "case $PWD in */other) exit 4;; esac")
    ids = [line.split()[-1] for line in begun.out.splitlines()]
    quiet = here("run", "-H", host, "--detach", "echo on").out.split()[-1]
    done = here("attach", "-H", hosts, *ids, quiet)
    assert (done.status, done.err) == (4, "")
    assert done.out == f"{host} {quiet} | on\n"
    assert here("attach", "-H", hosts, *ids, "--offset", "1").status == 2
