"""pool.dask(): a real Dask cluster on a real worker, and what is left of it."""

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.client.dask.part import Part
from mlepool.client.dask.script import try_to_reach
from mlepool.worker import WorkerThread, serve_in_thread
from tests.conftest import command_line, processes, wait_until
from tests.tools import refusing_port

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[3] / "docs/howto/dask.md"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """What jobs have for temporary files."""
    folder: Path = tmp_path_factory.mktemp("scratch")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, scratch) -> Iterator[WorkerThread]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))
        folder = tmp_path_factory.mktemp("dask")
        with serve_in_thread([], state_dir=folder, listen="127.0.0.1:0") as worker:
            yield worker


@pytest.fixture(scope="module")
def pool(server) -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        pool.add("localhost", server.port, name="one")
        pool.add("localhost", server.port, name="two")
        pool.connect()
        yield pool


@pytest.fixture(scope="module")
def client(pool) -> Iterator[Any]:
    with pool.dask(threads=1, memory_limit="300 MiB", scheduler="two") as client:
        yield client


def ours(server: WorkerThread) -> list[int]:
    """Give the processes of jobs of this worker: all have its supervisor above."""
    state = str(server.worker.config.state_dir)
    found: dict[int, list[int]] = {}
    for pid in processes():
        with contextlib.suppress(OSError, IndexError):
            parent = int(
                Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[1]
            )
            found.setdefault(parent, []).append(pid)
    waiting = [
        pid
        for pid in processes()
        if "mlepool.supervisor" in command_line(pid) and state in command_line(pid)
    ]
    below: list[int] = []
    while waiting:
        new = found.get(waiting.pop(), [])
        below += new
        waiting += new
    return below


def listening(pids: list[int]) -> list[tuple[str, int]]:
    """Give where processes listen for TCP."""
    inodes = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(path).removeprefix("socket:[").rstrip("]"))
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in inodes:
            address, _, port = words[1].partition(":")
            packed = bytes.fromhex(address)[::-1]
            found.append((socket.inet_ntoa(packed), int(port, 16)))
    return found


@pytest.fixture
def stub(tmp_path) -> Any:
    """Make a program that is run in place of Python."""

    def make(text: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def running(pool: mlepool.ClientPool) -> list[str]:
    return [one.command for one in pool["one"].jobs().value if one.status == "RUNNING"]


# -- the start fails: nothing of Dask is loaded there


def test_a_host_without_distributed_is_named_and_what_to_install(pool, stub):
    python = stub(f'exec "{sys.executable}" -I -S "$@"')
    with pytest.raises(mlepool.ClientError) as caught:
        pool.dask(python=python)
    text = str(caught.value)
    assert text.startswith("scheduler on one: ")
    assert "can't import distributed" in text
    assert "install 'mlepool[dask]'" in text
    assert running(pool) == []


def test_a_client_without_distributed_says_what_to_install(pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # it can't be imported then
    monkeypatch.delitem(sys.modules, "mlepool.client.sync.dask", raising=False)
    with pytest.raises(mlepool.ClientError, match=r"pip install 'mlepool\[dask\]'"):
        pool.dask()
    assert "mlepool.client.sync.dask" not in sys.modules


def test_a_host_without_that_python_is_named(pool):
    with pytest.raises(mlepool.ClientError, match="scheduler on one: .*no-such-python"):
        pool.dask(python="/no-such-python")


def test_versions_that_differ_are_told_with_what_to_install(pool, stub):
    import distributed

    told = '{"distributed": "2020.1.0", "python": "3.11"}'
    with pytest.raises(mlepool.ClientError) as caught:
        pool.dask(
            timeout=10,
            python=stub(f"cat >/dev/null; echo 'mlepool-dask: {told}'; sleep 60"),
        )
    assert "one has distributed 2020.1.0" in str(caught.value)
    assert f"pip install distributed=={distributed.__version__}" in str(caught.value)
    told = f'{{"distributed": "{distributed.__version__}", "python": "3.9"}}'
    with pytest.raises(mlepool.ClientError, match=r"one runs Python 3\.9, and this"):
        pool.dask(
            timeout=10,
            python=stub(f"cat >/dev/null; echo 'mlepool-dask: {told}'; sleep 60"),
        )
    assert running(pool) == []


def test_a_scheduler_that_is_not_reached_from_here_is_told(pool, stub):
    import distributed

    python = ".".join(map(str, sys.version_info[:2]))
    told = f'"distributed": "{distributed.__version__}", "python": "{python}"'
    with refusing_port() as port:
        says = f"echo 'mlepool-dask: {{{told}, \"port\": {port}}}'"
        fake = stub(f"cat >/dev/null; {says}; sleep 60")
        text = f"127.0.0.1:{port} .*give address="
        with pytest.raises(mlepool.ClientError, match=text):
            pool.dask(python=fake, timeout=5)
    assert running(pool) == []


def test_a_scheduler_that_is_not_reached_from_a_host_is_told(pool, stub):
    with refusing_port() as port:
        place = "127.0.0.1", port, 5.0
        problem = try_to_reach(place, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert "refused" in problem
    told = json.dumps({"problem": "unreachable", "text": problem})
    fake = stub(f"cat >/dev/null; echo 'mlepool-dask: {told}'")
    part = Part(pool["one"]._async, kind="workers", python=fake)

    async def hear() -> None:
        await part.begin({}, orphan_timeout=10)
        await part.hear("ready", limit=asyncio.get_running_loop().time() + 10)

    with pytest.raises(mlepool.ClientError) as caught:
        pool["one"]._portal.call(hear())
    text = f"workers on one: it can't reach the scheduler ({problem}): give address="
    assert str(caught.value).startswith(text)


def test_a_start_that_takes_too_long_says_what_it_waits_for(pool, stub):
    with pytest.raises(mlepool.ClientError) as caught:
        pool.dask(
            timeout=1.5, python=stub("cat >/dev/null; echo loading >&2; exec sleep 60")
        )
    text = "scheduler on one: not ready in time (RUNNING; its last line: loading)"
    assert str(caught.value) == text
    assert running(pool) == []


def test_ctrl_c_in_the_start_ends_what_had_begun(pool, stub, server):
    def interrupt() -> None:
        wait_until(lambda: ours(server))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        pool.dask(timeout=10, python=stub("exec sleep 60"))
    other.join()
    assert running(pool) == []
    wait_until(lambda: not ours(server))


def test_wishes_that_make_no_sense_are_refused(pool):
    with pytest.raises(KeyError, match="'three' is none of one, two"):
        pool.dask(scheduler="three")
    for wrong in ({"workers_per_host": 0}, {"threads": 0}, {"threads": True}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            pool.dask(**wrong)
    for address in ("http://one:1", "one:port", "one:1/path", "tls://"):
        with pytest.raises(ValueError, match="address|[Pp]ort"):
            pool.dask(address=address)
    with mlepool.ClientPool() as empty, pytest.raises(ValueError, match="no host"):
        empty.dask()


# -- one cluster for all that follows; the last test ends it


def test_it_computes_something_on_all_hosts(client, pool):
    squares = client.map(lambda number: number**2, range(100))
    assert client.submit(sum, squares).result() == sum(n**2 for n in range(100))
    pids = client.run(os.getpid)
    assert len({*pids.values(), os.getpid()}) == 3
    here = client.submit(os.getpid, workers="one", pure=False).result()
    assert command_line(here)
    names = {one["name"] for one in client.scheduler_info()["workers"].values()}
    assert names == {"one", "two"}


def test_its_parts_are_jobs_whose_logs_are_live(client, pool):
    def talk() -> None:
        print("said by a task", flush=True)  # noqa: T201

    assert client.scheduler_listener.host == "two"
    assert [*client.worker_listeners] == ["one", "two"]
    assert len(running(pool)) == 3
    client.submit(talk, workers="one").result()
    live = client.worker_listeners["one"]
    wait_until(lambda: "said by a task" in live.stdout)
    assert "distributed.worker" in live.stderr


def test_keys_are_in_no_argument_no_environment_and_no_file(client, server, scratch):
    pids = ours(server)
    assert len(pids) >= 5
    for pid in pids:
        for name in ("cmdline", "environ"):
            assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/{name}").read_bytes()
    for folder in (scratch, server.worker.config.state_dir):
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "key.pem":  # that one is the worker's
                assert b"PRIVATE KEY" not in path.read_bytes(), path
    assert {one.stat().st_mode & 0o777 for one in scratch.iterdir()} == {0o700}


def test_whatever_listens_refuses_who_has_no_certificate(client, server):
    places = listening(ours(server))
    assert len(places) == 5  # the scheduler; two nannies and their workers: no more
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    for host, port in places:
        assert host == "127.0.0.1"
        with socket.create_connection((host, port), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in plain.recv(1000)
        with (
            socket.create_connection((host, port), timeout=5) as plain,
            trusting.wrap_socket(plain) as stranger,  # it is told with the next bytes
            pytest.raises((ssl.SSLError, ConnectionResetError), match="required|reset"),
        ):
            stranger.recv(1000)


def test_a_worker_that_is_killed_is_replaced_and_the_result_is_right(client, tmp_path):
    gate, pids = tmp_path / "gate", tmp_path / "pids"

    def work(number: int, gate: str, pids: str) -> int:
        import os
        import time

        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\n")
        while not os.path.exists(gate):
            time.sleep(0.01)
        return number**2

    futures = client.map(work, range(6), gate=str(gate), pids=str(pids))
    wait_until(lambda: pids.exists() and pids.read_text().count("\n") >= 2)
    os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)
    gate.touch()
    assert client.gather(futures) == [0, 1, 4, 9, 16, 25]


def test_a_job_that_ends_early_is_told_of(client, pool, caplog):
    (job,) = [
        one
        for one in pool["one"].jobs().value
        if one.id == client.worker_listeners["one"].id
    ]
    with caplog.at_level(logging.WARNING, "mlepool.client"):
        os.kill(job.pid, signal.SIGKILL)
        wait_until(lambda: "one: Dask's workers ended: FAILED" in caplog.text)
    assert client.submit(sum, [1, 2], pure=False).result() == 3  # the other host's


def test_close_leaves_nothing_and_says_so(client, server, scratch):
    client.close()
    client.close()
    assert client.status == "closed"
    assert len(client.reports) == 3
    assert [one.survivors for one in client.reports] == [(), (), ()]
    ends = [one.wait(10).status for one in client.worker_listeners.values()]
    assert ends == ["FAILED", "STOPPED"]  # the first was killed before
    wait_until(lambda: not ours(server))
    assert [*scratch.iterdir()] == []


# -- a client that is killed; and what the page shows


def test_what_the_page_shows_and_what_a_killed_client_leaves(server, scratch):
    (code,) = re.findall(
        r"<!-- dask -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    code = code.replace("PORT", str(server.port))
    code = code.replace("threads=1", "threads=1, orphan_timeout=0.5")
    code += "        import os, sys; sys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("285\n", "", -9)
    assert ours(server)
    wait_until(lambda: not ours(server), limit=20)
    wait_until(lambda: [*scratch.iterdir()] == [])
