"""mlepool run: live output, exit statuses, what goes on when we leave."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

import mlepool as package
from tests.cli.shell import LIMIT, MLEPOOL, Finished, interrupt, running
from tests.conftest import RunningWorker, command_line, processes, wait_until
from tests.tools import refusing_port

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
    assert done.err.splitlines() == [  # in the order in which they were named
        *(f"mlepool: {host}: exit status 7", f"mlepool: {other}: exit status 137")
    ]


def test_stderr_has_prefixes_too_and_a_host_named_twice_is_one_host(host, other, here):
    done = here("run", "-H", f"{host},{other}", "--host", host, "echo odd >&2")
    assert (done.status, done.out) == (0, "")
    assert sorted(done.err.splitlines()) == sorted([f"{host} | odd", f"{other} | odd"])


def test_a_host_that_is_not_there_is_255_and_the_others_go_on(host, here):
    with refusing_port() as port:
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


def test_what_cannot_be_begun_is_no_unknown_outcome(host, here):
    long = "x" * 200_000  # more than the kernel takes, and then than a message
    for status, words in ((126, ("echo", long)), (1, [""]), (1, ("echo", *[long] * 6))):
        done = here("run", "--json", "-H", host, "--", *words)
        ended = json.loads(done.out.splitlines()[-1])
        assert (done.status, ended["status"]) == (status, "FAILED")
        done = here("run", "-H", host, "--", *words)
        assert (done.status, done.out) == (status, "")
        assert done.err.startswith("mlepool: ")
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
        (["--", "true"], "Invalid value for -H: name hosts"),
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


def goes_on(job_id: str, host: str) -> str:
    again = f"mlepool attach {job_id} -H {host}"
    return f"mlepool: job {job_id} goes on on {host}; come back with: {again}\n"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done; exit 5"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = interrupt(process)
    assert (done.status, done.out) == (128 + signal.SIGINT, "")
    job_id = JOB.findall(done.err)[0]
    hint = "mlepool: press Ctrl-C again within 2 s to stop it\n"
    assert done.err == goes_on(job_id, host) + hint
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()
    wait_until(lambda: find_job(host, job_id).status == "FAILED")


def at_terminal(*arguments: str, presses: tuple[str, ...]) -> Finished:
    """Run a command at a terminal; press Ctrl-C as each of the patterns is seen."""
    ours, its = pty.openpty()
    command = ["setsid", "-c", *MLEPOOL, *arguments]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen, waiting = "", list(presses)
    with contextlib.suppress(OSError):  # EIO: it has ended
        while piece := os.read(ours, 4096):
            seen += piece.decode()
            if waiting and re.search(waiting[0], seen, re.DOTALL):
                os.write(ours, b"\x03")
                waiting.pop(0)
    os.close(ours)
    return Finished(process.wait(LIMIT), seen.replace("\r\n", "\n"), "")


def test_a_second_ctrl_c_stops_the_jobs_with_proof(host, other, tmp_path):
    stamp = str(tmp_path)
    command = f"setsid sh -c 'while sleep 0.1; do :; done' {stamp} & echo on; wait"
    done = at_terminal(
        *("run", "-H", f"{host},{other}", "--", command),
        presses=("on\r.*on\r", "stop them\r"),  # both have begun
    )
    assert done.status == 128 + signal.SIGINT
    assert "press Ctrl-C again within 2 s to stop them" in done.out
    assert "mlepool: stopping them\n" in done.out
    proofs = re.findall(r"mlepool: job \w+ on (\S+): all dead after .*SIGINT", done.out)
    assert sorted(proofs) == sorted([host, other])
    assert not is_running(stamp)


def test_a_third_ctrl_c_does_not_wait_for_the_stop(host, tmp_path):
    command = (
        f"trap '' INT TERM; echo on; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    )
    done = at_terminal(
        *("run", "-H", host, "--", command), presses=("on\r", "to stop", "stopping")
    )
    assert done.status == 128 + signal.SIGINT
    assert done.out.endswith("mlepool: not waited for the end of the stop\n")
    (tmp_path / "go").touch()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_leaves_the_job_at_once(number, host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    job_id = JOB.findall(said)[0]
    assert said == goes_on(job_id, host)
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()


@pytest.mark.parametrize("presses", [(signal.SIGINT,) * 2, (signal.SIGTERM,)])
def test_it_ends_when_told_to_while_nobody_reads_what_it_prints(presses, host):
    with running(
        "run", "-H", host, "--", "yes | head -c 20000000; exec sleep 60"
    ) as process:
        for number in presses:
            wait_until(lambda: is_stuck(process.pid))  # its pipe is full
            process.send_signal(number)
        assert process.wait(LIMIT) == 128 + presses[0]
        assert process.stderr is not None
        job_id = JOB.findall(process.stderr.readline())[0]
    with package.ClientPool() as pool, pool.add(host) as conn:
        conn.stop(job_id, signal="SIGKILL")


def is_stuck(pid: int) -> bool:
    """Tell if a process waits in a write, and has taken all its signals."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = [int(one, 16) for one in re.findall(r"(?:Sig|Shd)Pnd:\s(\w+)", status)]
    return not any(pending) and "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()


def test_ctrl_c_while_it_connects_ends_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with running("run", "-H", host, "--", "true") as process:
            link, _ = silent.accept()
            link.recv(1)  # it has begun to greet
            done = interrupt(process)
            link.close()
    assert done == (128 + signal.SIGINT, "", "")


def test_a_reader_that_has_enough_ends_the_job_as_in_a_shell(host, tmp_path):
    command = f": {tmp_path}; while echo on; do sleep 0.02; done"
    with running("run", "-H", host, "--", command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # as head -1 does
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 128 + signal.SIGPIPE
    with package.ClientPool() as pool, pool.add(host) as conn:
        job = next(one for one in conn.jobs().value if str(tmp_path) in one.command)
        assert job.status == "STOPPED"


def test_a_full_disk_is_no_end_of_the_job(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done"
    line = 'exec "$@" > /dev/full'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *MLEPOOL, "run", "-H", host, "--", command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    goes, why = done.stderr.splitlines(keepends=True)
    job_id = JOB.findall(goes)[0]
    assert goes == goes_on(job_id, host)
    assert why.startswith("mlepool: [Errno 28]")
    assert find_job(host, job_id).status == "RUNNING"
    go.touch()


def test_a_worker_that_goes_away_is_waited_for_and_the_output_goes_on(
    own_worker, tmp_path
):
    port, go = own_worker.port, tmp_path / "go"
    command = f"echo on; until [ -e {go} ]; do sleep 0.02; done; echo last; exit 6"
    with running("run", "-H", f"localhost:{port}", "--", command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        own_worker.process.kill()
        own_worker.end()
        lost = process.stderr.readline()
        go.touch()
        again = RunningWorker(own_worker.state_dir.parent, listen=f"127.0.0.1:{port}")
        try:
            out, said = process.communicate(timeout=LIMIT)
        finally:
            again.end()
    assert lost == f"mlepool: lost the link to localhost:{port}; reconnecting\n"
    assert said == f"mlepool: connected to localhost:{port} again\n"
    assert (process.returncode, out) == (6, "last\n")
