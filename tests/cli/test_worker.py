"""mlepool worker: starts, says where it is, ends in order; or says why it can't."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool as package
from mlepool.worker.access.identity import Identity
from tests.cli.shell import LIMIT, running
from tests.conftest import command_line, processes, wait_until

pytestmark = pytest.mark.real

JOIN_URL = re.compile(r"  mle://(\S+)\?key=[\w-]{43}&token=[\w-]{43}\n")


@contextlib.contextmanager
def started(*options: str, lines: int = 3, **env: str) -> Iterator[list[str]]:
    """Run a worker that says so many lines on stdout, and nothing after them."""
    with running("worker", *options, **env) as process:
        assert process.stdout is not None
        yield [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGTERM)
        rest, log = process.communicate(timeout=LIMIT)
        assert (process.returncode, rest) == (0, "")
        assert "Traceback" not in log
        assert "token=" not in log


def supervisor_runs(state_dir: Path) -> bool:
    name = f"mlepool.supervisor {state_dir}"
    return any(name in command_line(pid) for pid in processes())


def test_the_first_start_prints_the_join_url_and_a_later_one_does_not(tmp_path):
    state = tmp_path / "state"
    with started("--listen", "127.0.0.1:0", "--state-dir", str(state)) as said:
        place = re.fullmatch(r"listening on (\S+), state in (\S+)\n", said[0])
        assert place is not None
        assert place.group(2) == str(state)
        assert said[1] == "join URL (a secret; for 'mlepool trust' elsewhere):\n"
        url = JOIN_URL.fullmatch(said[2])
        assert url is not None
        assert url.group(1) == place.group(1)
        assert supervisor_runs(state)
    wait_until(lambda: not supervisor_runs(state))
    assert not [path for path in state.rglob("*") if path.is_socket()]

    environment = {"MLEPOOL_STATE_DIR": str(state)}
    with started("--name", "me", "--listen", ":0", lines=1, **environment) as said:
        assert re.fullmatch(rf"listening on \S+:\d+, state in {state}\n", said[0])
        with package.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
            assert conn.state["name"] == "me"


@pytest.mark.usefixtures("elsewhere")
def test_a_later_start_prints_a_join_url_that_works_if_asked(tmp_path, here):
    state = tmp_path / "state"
    Identity(state)  # as at a start before
    place = ["--listen", "ws://0.0.0.0:0", "--state-dir", str(state)]
    with started(*place, "--join-url") as said:
        url = said[2].strip()
        # To listen everywhere is no address that others could use: it has our name.
        assert url.startswith(f"mle://{socket.gethostname()}:")
        assert url.endswith("&scheme=ws")
        near = re.sub("//[^:]+", "//localhost", url)
        with package.ClientPool() as pool, pool.add(near) as conn:
            assert conn.run("true").ok
        # A local worker is up whatever it listens on.
        row = here("hosts").out.splitlines()[2]
        assert row.split()[3:5] == ["local", "up"]
    assert here("hosts").out.startswith("no worker is known")


@pytest.mark.parametrize(
    "place", ["nonsense:port", "1.2.3.4:99999", "", ":-1", "http://x:1", "[::1]:0x"]
)
def test_a_listen_address_that_is_none_is_one_line(place, here, tmp_path):
    state = tmp_path / "state"
    done = here("worker", "--listen", place, "--state-dir", str(state))
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"mlepool worker: cannot listen on {place!r}: give HOST:PORT, e.g. "
        "127.0.0.1:9922\n"
    )
    assert not state.exists()


def test_a_taken_port_is_one_line_and_leaves_no_process(tmp_path, here):
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = here("worker", "--listen", place, "--state-dir", str(state))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool worker: cannot listen on {place}: ")
    assert "already in use" in done.err
    assert len(done.err.splitlines()) == 1
    wait_until(lambda: not supervisor_runs(state))
    # It was no first start: the next one still prints the join URL.
    with started("--listen", "127.0.0.1:0", "--state-dir", str(state)) as said:
        assert JOIN_URL.fullmatch(said[2])


def test_a_state_folder_has_one_worker_at_most(worker, here):
    folder = str(worker.state_dir)
    done = here("worker", "--listen", "127.0.0.1:0", "--state-dir", folder)
    assert done == (
        1,
        "",
        f"mlepool worker: another worker runs with the state folder {folder}; give "
        "this one another with --state-dir\n",
    )
    with package.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        assert conn.run("true").ok


def test_a_state_folder_that_is_none_is_one_line(here):
    done = here("worker", "--listen", "127.0.0.1:0", "--state-dir", __file__)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool worker: the state folder {__file__} is not ")
    assert len(done.err.splitlines()) == 1


def test_a_wrong_file_is_one_line(tmp_path, here):
    (tmp_path / "config.toml").write_text("job_quta = 5\n")
    done = here("worker", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path))
    place = f"{tmp_path}/config.toml:1"
    said = f"{place}: there is no key 'job_quta'; did you mean 'job_quota'?"
    assert done == (1, "", f"mlepool worker: {said}\n")


def test_settings_can_be_looked_at_without_a_start(tmp_path, here):
    state = tmp_path / "state"
    options = ["--state-dir", str(state), "--set", "retain_days=3", "--label", "a=b"]
    done = here("worker", "--check-config", *options)
    assert (done.status, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["retain_days", "3.0", "--set", "retain_days"] in rows
    assert ["labels", "{'a':", "'b'}", "--label"] in rows
    assert not state.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "mine.py: No such file or directory"),
        ("x = (\n", "mine.py:1: '(' was never closed"),
    ],
)
def test_files_of_commands_are_looked_at_and_not_run(content, said, *, tmp_path, here):
    file = tmp_path / "mine.py"
    options = ["--commands", "no.such.module", "--commands", str(file)]
    if content is not None:
        file.write_text(content)
    done = here("worker", "--check-config", *options)
    assert (done.status, done.err) == (
        1,
        f"mlepool worker: --commands: {tmp_path}/{said}\n",
    )
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert here("worker", "--check-config", *options).status == 0
    assert not (tmp_path / "ran").exists()


AT_TERMINAL = """
import os, sys
os.setsid()
os.close(os.open(sys.argv[1], os.O_RDWR))  # a session without a terminal gets it
os.execv(sys.executable, [sys.executable, "-m", "mlepool", "worker", *sys.argv[2:]])
"""


def test_a_worker_ends_with_its_terminal_and_in_order(tmp_path):
    near, far = os.openpty()
    options = ["--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")]
    command = [sys.executable, "-c", AT_TERMINAL, os.ttyname(far), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        os.close(far)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        process.send_signal(signal.SIGHUP)  # the terminal is there: it rereads
        process.send_signal(signal.SIGHUP)
        assert process.poll() is None
        os.close(near)
        assert process.wait(LIMIT) == 0
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_socket()]
