"""mlepool run: live output, exit statuses, what goes on when we leave."""

import os
import re
import signal
import socket
from typing import Any

import pytest

import mlepool as package
from tests.cli.shell import LIMIT, interrupt, running
from tests.conftest import command_line, processes, wait_until

pytestmark = pytest.mark.real

JOB = re.compile(r"job ([0-9a-f]{16}) ")


def find_job(host: str, job_id: str) -> Any:
    with package.ClientPool() as pool, pool.add(host) as conn:
        return next(one for one in conn.jobs().value if one.id == job_id)


def is_running(text: str) -> bool:
    return any(text in command_line(pid) for pid in processes())


# -- what the command says and how it ends


def test_one_hosts_output_is_as_the_command_wrote_it(host, here):
    command = "echo 'Zürich €'; printf odd >&2; exit 3"
    assert here("run", "-H", host, "--", command) == (3, "Zürich €\n", "odd")


def test_several_hosts_have_prefixes_and_the_worst_status_counts(host, other, here):
    command = "echo fine; case $PWD in */other) kill -9 $$; esac; exit 7"
    done = here("run", "-H", f"{host},{other}", "--", command)
    assert done.status == 128 + signal.SIGKILL
    assert sorted(done.out.splitlines()) == sorted(
        [f"{host} | fine", f"{other} | fine"]
    )
    assert done.err == ""


def test_stderr_has_prefixes_too_and_a_host_named_twice_is_one_host(host, other, here):
    done = here("run", "-H", f"{host},{other}", "--host", host, "echo odd >&2")
    assert (done.status, done.out) == (0, "")
    assert sorted(done.err.splitlines()) == sorted([f"{host} | odd", f"{other} | odd"])


def test_a_host_that_is_not_there_is_255_and_the_others_go_on(host, here):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = here("run", "-H", f"localhost:{port},{host}", "--", "echo fine")
    assert done.status == 255
    assert done.out.split() == [host, "|", "fine"]
    assert done.err.startswith(f"localhost:{port}")
    assert f"mlepool: cannot connect to localhost:{port}: " in done.err
    assert len(done.err.splitlines()) == 1


def test_several_words_are_a_program_and_its_arguments_and_meet_no_shell(host, here):
    words = ["$HOME", "*", "a b", "-x", "--", os.fsdecode(b"\xff")]
    done = here("run", "-H", host, "--", "printf", "%s|", *words)
    assert done == (0, "$HOME|*|a b|-x|--|\ufffd|", "")


def test_options_after_the_first_word_are_the_commands_own(host, here):
    done = here("run", "-H", host, "sh", "-c", "echo $0 $@", "--timeout", "--", "5")
    assert done == (0, "--timeout -- 5\n", "")


@pytest.mark.parametrize("case", [(127, "no-such-program"), (126, __file__)])
def test_what_cannot_be_executed_ends_as_in_a_shell(host, here, case):
    status, word = case
    done = here("run", "-H", host, "--", word, "argument")
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("mlepool: ")
    assert f"{word!r} (on {host})" in done.err
    assert len(done.err.splitlines()) == 1


def test_cwd_is_where_it_runs(host, here, tmp_path):
    done = here("run", "-H", host, "--cwd", str(tmp_path), "pwd")
    assert done == (0, f"{tmp_path}\n", "")


def test_at_its_timeout_a_command_is_stopped_with_all_its_processes(
    host, here, tmp_path
):
    stamp = str(tmp_path)
    command = f"sh -c 'while sleep 0.1; do :; done' {stamp} & echo on; wait"
    done = here("run", "-H", host, "--timeout", "0.5", "--", command)
    assert (done.status, done.out) == (128 + signal.SIGTERM, "on\n")
    assert done.err.endswith("did not end within 0.5 s; it was stopped\n")
    assert not is_running(stamp)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--", "true"], "Missing option '-H'"),
        (["-H", ",", "true"], "Invalid value for -H: no host is named"),
        (["-H", "a", "--timeout", "-1", "true"], "Invalid value for --timeout"),
        (["-H", "a", "--timeout", "nan", "true"], "Invalid value for --timeout"),
        (["-H", "a"], "Missing argument 'command'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    arguments, complaint, here
):
    done = here("run", *arguments)
    assert (done.status, done.out) == (2, "")
    assert f"Error: {complaint}" in done.err


@pytest.mark.parametrize("name", ["http://gpu1", "gpu 1", "gpu1:99999", "mle://gpu1?"])
def test_a_host_that_cannot_be_one_is_one_line(name, here):
    done = here("run", "-H", name, "true")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("mlepool: ")
    assert len(done.err.splitlines()) == 1


# -- live, and going away


def test_lines_are_printed_while_the_command_runs(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo €; until [ -e {go} ]; do sleep 0.02; done; echo last; exit 3"
    # What the terminal has no characters for is shown all the same.
    environment = {"PYTHONIOENCODING": "ascii"}
    with running("run", "-H", host, "--", command, **environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\\u20ac\n"
        go.touch()
        assert process.communicate(timeout=LIMIT) == ("last\n", "")
        assert process.returncode == 3


def test_detach_prints_the_job_and_leaves_it_running(host, tmp_path, here):
    go = tmp_path / "go"
    command = f"until [ -e {go} ]; do sleep 0.02; done; echo done"
    done = here("run", "-H", host, "--detach", "--", command)
    assert (done.status, done.err) == (0, "")
    name, _, job_id = done.out.split()
    assert name == f"{host}:"
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()
    with package.ClientPool() as pool, pool.add(host) as conn:
        assert conn.attach(job_id).wait().stdout == "done\n"


def test_ctrl_c_leaves_the_job_running_and_names_it(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done; exit 5"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = interrupt(process)
    assert (done.status, done.out) == (128 + signal.SIGINT, "")
    job_id = JOB.findall(done.err)[0]
    assert done.err == f"mlepool: job {job_id} goes on on {host}\n"
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()
    wait_until(lambda: find_job(host, job_id).status == "FAILED")


def test_ctrl_c_while_it_connects_ends_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with running("run", "-H", host, "--", "true") as process:
            link, _ = silent.accept()
            link.recv(1)  # it has begun to greet
            done = interrupt(process)
            link.close()
    assert done == (128 + signal.SIGINT, "", "")


def test_a_reader_that_goes_away_is_no_end_of_the_job(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; echo more; done"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # as head -1 does
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(LIMIT) == 1
    job_id = JOB.findall(said)[0]
    assert said == f"mlepool: job {job_id} goes on on {host}\n"
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()
    wait_until(lambda: find_job(host, job_id).status == "SUCCEEDED")


def test_a_worker_that_goes_away_is_255_and_the_job_is_named(own_worker, tmp_path):
    host, go = f"localhost:{own_worker.port}", tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own_worker.end()
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 255
    lost, goes_on = said.splitlines()
    assert lost.startswith(f"mlepool: lost the connection to {host}: ")
    assert re.fullmatch(r"mlepool: job [0-9a-f]{16} goes on", goes_on)
    assert is_running(str(go))
    go.touch()
    wait_until(lambda: not is_running(str(go)))
