"""mlepool worker: starts, says where it is, ends in order; or says why it can't."""

import contextlib
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool as package
from tests.cli.shell import LIMIT, mlepool, running
from tests.conftest import command_line, processes, wait_until

pytestmark = pytest.mark.real

JOIN_URL = re.compile(r"  mle://(\S+):(\d+)\?key=[\w-]{43}&token=[\w-]{43}(&\S+)?\n")


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


def test_the_first_start_prints_the_join_url_and_a_later_one_if_asked(tmp_path):
    state = tmp_path / "state"
    options = ["--listen", "127.0.0.1:0", "--state-dir", str(state)]
    with started(*options) as said:
        assert re.fullmatch(
            rf"listening on 127.0.0.1:\d+, state in {re.escape(str(state))}\n", said[0]
        )
        assert said[1] == "join URL (a secret; for 'mlepool trust' elsewhere):\n"
        assert JOIN_URL.fullmatch(said[2])
        secret = said[2].partition("?")[2]
        assert supervisor_runs(state)
    wait_until(lambda: not supervisor_runs(state))
    assert not [path for path in state.rglob("*") if path.is_socket()]
    with started(*options, lines=1) as said:
        assert said[0].startswith("listening on ")
    with started(*options, "--join-url") as said:
        assert said[2].endswith(secret)


def test_without_a_host_it_listens_everywhere_and_gives_this_machines_name(tmp_path):
    state = str(tmp_path / "state")
    with started(
        "--listen", "0.0.0.0:0", "--name", "me", MLEPOOL_STATE_DIR=state
    ) as said:
        assert f"state in {state}" in said[0]
        found = JOIN_URL.fullmatch(said[2])
        assert found is not None
        assert found.group(1) == socket.gethostname()
        with package.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
            assert conn.state["name"] == "me"


def test_the_join_url_of_a_plain_port_says_so(tmp_path):
    with started(
        "--listen", "ws://127.0.0.1:0", "--state-dir", str(tmp_path / "state")
    ) as said:
        url = said[2].strip()
        assert url.endswith("&scheme=ws")
        with package.ClientPool() as pool, pool.add(url) as conn:
            assert conn.run("true").ok


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


def test_a_taken_port_is_one_line_and_leaves_no_process(tmp_path):
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mlepool("worker", "--listen", place, "--state-dir", str(state))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool worker: cannot listen on {place}: ")
    assert "already in use" in done.err
    assert len(done.err.splitlines()) == 1
    wait_until(lambda: not supervisor_runs(state))


def test_a_state_folder_has_one_worker_at_most(worker):
    folder = str(worker.state_dir)
    done = mlepool("worker", "--listen", "127.0.0.1:0", "--state-dir", folder)
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
