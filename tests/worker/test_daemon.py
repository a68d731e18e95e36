"""Real workers: started, found again, killed; and their supervisors."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mlepool
from mlepool.testing.kill import alive
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real


def start(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a worker that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "mlepool", "worker", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


def again(worker: RunningWorker) -> RunningWorker:
    """Start a worker in another one's place, with the same state."""
    worker.process.wait(20)
    worker.end()
    return RunningWorker(worker.state_dir.parent)


@pytest.fixture
def successors():
    """Workers to end after the test."""
    workers: list[RunningWorker] = []
    yield workers
    for one in workers:
        one.end()


def connect(pool: mlepool.ClientPool, worker: RunningWorker) -> mlepool.Connection:
    """Connect to a worker under a name of its own."""
    name = f"worker-{len(pool)}"
    connection = pool.add("127.0.0.1", worker.port, name=name)
    connection.connect()
    return connection


@pytest.fixture
def pool():
    with mlepool.ClientPool() as pool:
        yield pool


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Give the one line with which a worker ended that could not start."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = (
        one for one in done.stderr.splitlines() if one.startswith("mlepool worker: ")
    )
    return line


# -- starting


def test_two_workers_with_one_state_folder_are_refused_clearly(own_worker, pool):
    state = str(own_worker.state_dir)
    done = start("--listen", "127.0.0.1:0", "--state-dir", state)
    assert f"another worker runs with the state folder {state}" in complaint(done)
    assert "--state-dir" in done.stderr
    assert connect(pool, own_worker).run("echo well").stdout == "well\n"


def test_a_port_in_use_is_refused_clearly_and_leaves_no_supervisor(worker, tmp_path):
    place = f"127.0.0.1:{worker.port}"
    done = start("--listen", place, "--state-dir", str(tmp_path / "state"))
    assert f"cannot listen on {place}" in complaint(done)
    wait_until(lambda: not (tmp_path / "state/supervisor.sock").exists())


def test_an_unusable_address_is_refused_clearly(tmp_path):
    done = start("--listen", "http://x:1", "--state-dir", str(tmp_path / "state"))
    assert "cannot listen on" in complaint(done)


def test_an_unusable_state_folder_is_refused_clearly(tmp_path):
    (tmp_path / "file").write_text("")
    state = str(tmp_path / "file/state")
    done = start("--listen", "127.0.0.1:0", "--state-dir", state)
    assert f"the state folder {state} is not usable" in complaint(done)


def test_an_unusable_account_folder_is_refused_clearly(tmp_path):
    (tmp_path / "file").write_text("")
    done = start(
        *("--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")),
        MLEPOOL_HOME=str(tmp_path / "file/home"),
    )
    assert "file/home" in complaint(done)


def test_a_damaged_identity_is_refused_clearly(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    for name in ("certificate.pem", "key.pem", "token"):
        (state / name).write_text("nonsense\n")
    done = start("--listen", "127.0.0.1:0", "--state-dir", str(state))
    assert "remove all three to make new ones" in complaint(done)


def test_a_state_folder_with_a_long_path_works(tmp_path, pool):
    long = tmp_path / ("long-" * 25) / ("name-" * 25)
    worker = RunningWorker(long)
    try:
        connection = pool.add(f"unix:{worker.state_dir}")
        connection.connect()
        assert connection.run("echo well").stdout == "well\n"
    finally:
        worker.end()


# -- ending


def test_a_worker_that_ends_says_goodbye_and_leaves_nothing(own_worker, pool):
    connection = connect(pool, own_worker)
    connection.run("true")
    noticed = threading.Event()
    connection.on("reconnecting", lambda *_: noticed.set())
    own_worker.process.send_signal(signal.SIGTERM)
    assert own_worker.process.wait(20) == 0
    assert noticed.wait(10)
    wait_until(lambda: not (own_worker.state_dir / "supervisor.sock").exists())
    assert not (own_worker.state_dir / "worker.sock").exists()
    account = Path(os.environ["MLEPOOL_HOME"])
    states = [one.read_text() for one in (account / "workers").iterdir()]
    assert not any(str(own_worker.state_dir) in one for one in states)
    assert "Traceback" not in own_worker.log


def test_a_job_outlives_the_orderly_end_of_its_worker(own_worker, pool, successors):
    connection = connect(pool, own_worker)
    job = connection.run(
        "echo one; read x; echo two; exit 5", stdin=True, complete=False
    )
    assert job.next() == "one"
    own_worker.process.send_signal(signal.SIGTERM)
    successors.append(again(own_worker))
    back = connect(pool, successors[0])
    (info,) = back.jobs().value
    assert (info.id, info.status) == (job.id, "RUNNING")
    assert info.command == job.command
    attached = back.attach(job.id)
    attached.send_input("go\n")
    attached.wait()
    assert (attached.stdout, attached.exit_code) == ("one\ntwo\n", 5)


def test_a_worker_restarted_at_once_gets_a_supervisor(own_worker, pool, successors):
    worker = own_worker
    for _ in range(2):
        worker.process.send_signal(signal.SIGTERM)
        worker = again(worker)
        successors.append(worker)
    assert connect(pool, worker).run("echo well").stdout == "well\n"


# -- the worker is killed


def test_a_job_goes_on_without_its_worker_and_is_read_again_from_byte_0(
    own_worker, pool, successors
):
    count = 200_000
    code = (
        "import sys\n"
        "print('first', flush=True)\n"
        "sys.stdin.readline()\n"
        f"for number in range({count}): print(number)\n"
        "print('last', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    connection = connect(pool, own_worker)
    job = connection.run([sys.executable, "-c", code], stdin=True, complete=False)
    assert job.next() == "first"
    supervisor = own_worker.supervisor_pid()
    job.send_input("go\n")
    own_worker.process.kill()
    connection.disconnect()
    with pytest.raises(mlepool.ConnectionLostError):
        job.wait()
    assert not job.ok
    successors.append(again(own_worker))
    assert successors[0].supervisor_pid() == supervisor
    attached = connect(pool, successors[0]).attach(job.id).wait()
    expected = "".join(f"{number}\n" for number in range(count))
    assert attached.stdout == f"first\n{expected}"
    assert attached.stderr == "last\n"
    assert (attached.exit_code, attached.status) == (7, "FAILED")


def repeat(connection: mlepool.Connection, job_id: str, command: str):
    """Send a run again under an id, as after a lost link."""
    inner = connection._async
    call = inner.call(inner.find("run"), (command,), {}, job_id=job_id)
    return connection._portal.call(call)


# -- the supervisor is killed


def test_jobs_of_a_killed_supervisor_are_lost_and_new_ones_run(own_worker, pool):
    connection = connect(pool, own_worker)
    job = connection.run("echo one; exec sleep 61", complete=False)
    assert job.next() == "one"
    pid = connection.jobs().value[0].pid
    old = own_worker.supervisor_pid()
    os.kill(old, signal.SIGKILL)
    job.wait()
    assert isinstance(job.error, mlepool.JobLostError)
    assert "its supervisor was killed" in str(job.error)
    assert (job.status, job.ok, job.exit_code) == ("LOST", False, None)
    assert job.stdout == "one\n"
    wait_until(lambda: own_worker.supervisor_pid() != old)
    wait_until(lambda: works(connection))
    assert connection.attach(job.id).wait().status == "LOST"
    report = connection.stop(job.id).value
    assert (report.status, report.complete) == ("LOST", True)
    assert [one.pid for one in report.signalled] == [pid]
    wait_until(lambda: not alive(pid))
    assert "Traceback" not in own_worker.log


def works(connection: mlepool.Connection) -> bool:
    listener = connection.run("echo well")
    if listener.error is not None:
        assert "there is no supervisor; try again" in str(listener.error)
    return bool(listener.stdout == "well\n")


def test_a_supervisor_that_drops_the_worker_keeps_its_jobs(own_worker, pool):
    connection = connect(pool, own_worker)
    job = connection.run("echo one; read x; echo two", stdin=True, complete=False)
    assert job.next() == "one"
    pid = own_worker.supervisor_pid()
    # Another one that connects takes the worker's place, so the worker loses its link.
    with socket.socket(socket.AF_UNIX) as intruder:
        here = os.open(own_worker.state_dir, os.O_RDONLY)
        intruder.connect(f"/proc/self/fd/{here}/supervisor.sock")
        os.close(here)
        wait_until(lambda: "lost the supervisor" in own_worker.log)
    wait_until(lambda: works(connection))
    assert own_worker.supervisor_pid() == pid
    job.send_input("go\n")
    assert job.wait().stdout == "one\ntwo\n"
    assert job.exit_code == 0


# -- journals


def test_a_journal_that_is_removed_under_a_job_harms_only_its_readers(own_worker, pool):
    connection = connect(pool, own_worker)
    job = connection.run(
        "read x; seq 9999; read x; echo two", stdin=True, detach=True, complete=False
    )
    (journal,) = (own_worker.state_dir / "jobs").glob("*.journal")
    journal.unlink()
    job.send_input("go\n")
    assert job.wait().status == "LOST"
    assert "journal can't be read" in str(job.error)
    assert connection.run("echo well").stdout == "well\n"
    assert connection.stop(job.id).value.complete
    assert "Traceback" not in own_worker.log


def test_a_journal_that_is_cut_harms_only_its_readers(own_worker, pool):
    connection = connect(pool, own_worker)
    lost: list[object] = []
    connection.on("reconnecting", lost.append)
    job = connection.run("seq 200000")
    (journal,) = (own_worker.state_dir / "jobs").glob("*.journal")
    os.truncate(journal, journal.stat().st_size // 2)
    again = connection.attach(job.id).wait()
    assert again.status == "LOST"
    assert "journal can't be read: it ends at" in str(again.error)
    assert connection.run("echo well").stdout == "well\n"
    assert lost == []


# -- after a crash of all


class Past(NamedTuple):
    """Jobs of a worker that was killed with its supervisor, and its successor."""

    worker: RunningWorker
    once: str
    failed: str
    running: str
    damaged: list[str]


@pytest.fixture(scope="module")
def past(tmp_path_factory) -> Iterator[Past]:
    worker = RunningWorker(tmp_path_factory.mktemp("past"))
    ran = worker.state_dir.with_name("ran")
    with mlepool.ClientPool() as pool:
        conn = connect(pool, worker)
        once = conn.run(f"echo ran >> {ran}; cat {ran}")
        failed = conn.run("echo well; exit 3")
        damaged = [conn.run(f"echo {number}").id for number in range(2)]
        running = conn.run("echo one; exec sleep 61", complete=False, detach=True)
        assert running.next() == "one"
        pids = [one.pid for one in conn.jobs().value if one.id == running.id]
    worker.process.kill()
    for pid in (worker.supervisor_pid(), *pids):
        os.kill(pid, signal.SIGKILL)
    for job, content in zip(damaged, (b"nonsense", b""), strict=True):
        (worker.state_dir / "jobs" / f"{job}.journal").write_bytes(content)
    successor = again(worker)
    yield Past(successor, once.id, failed.id, running.id, damaged)
    successor.end()


def test_the_same_id_is_not_run_again_after_a_crash(past, pool):
    connection = connect(pool, past.worker)
    ran = past.worker.state_dir.with_name("ran")
    for _ in range(2):
        repeated = repeat(connection, past.once, f"echo ran >> {ran}")
        assert (repeated.id, repeated.stdout) == (past.once, "ran\n")
        assert repeated.exit_code == 0
    assert ran.read_text() == "ran\n"


def test_a_job_that_had_ended_is_not_lost_in_a_crash(past, pool):
    attached = connect(pool, past.worker).attach(past.failed).wait()
    assert (attached.status, attached.exit_code) == ("FAILED", 3)
    assert attached.stdout == "well\n"


def test_a_job_that_was_running_is_lost_in_a_crash_but_not_its_output(past, pool):
    connection = connect(pool, past.worker)
    attached = connection.attach(past.running).wait()
    assert (attached.status, attached.exit_code) == ("LOST", None)
    assert attached.stdout == "one\n"
    assert repeat(connection, past.running, "echo again").status == "LOST"


def test_a_damaged_journal_is_an_error_of_its_job_alone(past, pool):
    connection = connect(pool, past.worker)
    for job in past.damaged:
        with pytest.raises(mlepool.RemoteError, match="no whole HEAD block"):
            connection.attach(job)
        assert repeat(connection, job, "echo again").status == "LOST"
    assert connection.run("echo well").stdout == "well\n"
    assert "Traceback" not in past.worker.log
