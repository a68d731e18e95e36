"""Stop means dead, with proof; and why a job died, as its listener says."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import alive, kill_supervisor, kill_worker, supervisor_pid
from mlepool.wire.messages import Ended, Request
from tests.conftest import RunningWorker, wait_until
from tests.needs import lacking, need_program, need_root
from tests.raw import raw_client

pytestmark = pytest.mark.real

WITHOUT_CGROUPS = (
    'unshare -m sh -c \'umount -l $(grep -m1 cgroup2 /proc/mounts | cut -d" " -f2); '
    'exec "$@"\' -'
)
DEAF = (
    "import os, signal, sys, time; os.closerange(0, 3);"
    "signal.signal(signal.SIGINT, signal.SIG_IGN);"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
)
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        env = {{}} if {is_empty} else os.environ
        os.execve(sys.executable, [sys.executable, "-S", "-c", {deaf!r}, {path!r}], env)
    os._exit(0)
os.wait()
time.sleep(60)
"""


@pytest.fixture(scope="module", params=["cgroups", "no cgroups"])
def stopper(request, tmp_path_factory) -> Iterator[RunningWorker]:
    """A worker that may make control groups, and one that may not."""
    need_root()
    need_program("unshare")
    within = ["sh", "-c", f'exec {WITHOUT_CGROUPS} "$@"', "-"]
    folder = tmp_path_factory.mktemp("stopper")
    is_without = request.param == "no cgroups"
    worker = RunningWorker(folder, within=within if is_without else ())
    try:
        with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
            has_groups = "/mlepool-" in conn.run("cat /proc/self/cgroup").output
        if not is_without and not has_groups:
            lacking("control groups, version 2, that may be made")
        assert has_groups != is_without
        yield worker
    finally:
        worker.end()


@pytest.fixture
def stop_conn(stopper) -> Iterator[mlepool.Connection]:
    with mlepool.ClientPool() as pool, pool.add("localhost", stopper.port) as conn:
        yield conn


def commands(report: mlepool.StopReport) -> set[str]:
    return {one.command for one in report.signalled}


def daemon(path: Path, *, is_empty: bool) -> list[str]:
    """Make a command that leaves a daemon behind, which is deaf."""
    code = DAEMON.format(is_empty=is_empty, deaf=DEAF, path=str(path))
    return [sys.executable, "-S", "-c", code]


def pid_in(path: Path) -> int:
    """Wait for a process to say its pid."""
    wait_until(lambda: path.exists() and path.read_text().isdigit())
    return int(path.read_text())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sleep 71 & sleep 72; wait", {"sleep 71", "sleep 72"}),
        ("sleep 71 | sleep 72 | sleep 73", {"sleep 71", "sleep 72", "sleep 73"}),
        ("setsid setsid sleep 71 & sleep 72", {"sleep 71", "sleep 72"}),
        ("(sleep 71 &) ; exec sleep 72", {"sleep 71", "sleep 72"}),
        ("trap '' INT TERM; sleep 71; sleep 72", {"sleep 71"}),
    ],
)
def test_every_process_is_signalled_and_none_is_left(stop_conn, command, expected):
    live = stop_conn.run(f"echo on; {command}", complete=False)
    assert live.next() == "on"
    wait_until(lambda: expected <= running(live.id))
    report = live.stop(grace=5.0)
    assert (report.status, report.survivors) == ("STOPPED", ())
    assert expected <= commands(report)
    assert running(live.id) == set()
    assert all(one.after <= report.seconds for one in report.signalled)
    assert live.wait().status.value == "STOPPED"
    assert live.reason.startswith("stopped by 127.0.0.1:")


def test_a_process_that_was_stopped_hears_the_signal(stop_conn):
    live = stop_conn.run(["sleep", "71"], complete=False)
    wait_until(lambda: running(live.id) == {"sleep 71"})
    (pid,) = (one.pid for one in stop_conn.jobs().value if one.id == live.id)
    os.kill(pid, signal.SIGSTOP)
    report = live.stop(grace=5.0)
    assert [one.signal for one in report.signalled] == ["SIGINT"]
    assert report.complete
    assert live.wait().exit_code == -signal.SIGINT


def running(job_id: str) -> set[str]:
    """Give the command lines of living processes that have a job's stamp."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and alive(int(entry.name)):
                stamp = f"MLEPOOL_JOB={job_id}".encode()
                if stamp in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found.add(b" ".join(words).decode().strip())
    return found


def test_a_deaf_daemon_is_found_by_its_stamp_and_killed(stop_conn, tmp_path):
    live = stop_conn.run(daemon(tmp_path / "pid", is_empty=False), complete=False)
    pid = pid_in(tmp_path / "pid")
    report = live.stop(grace=5.0)
    assert report.complete
    signals = [one.signal for one in report.signalled if one.pid == pid]
    assert signals == ["SIGINT", "SIGTERM", "SIGKILL"]
    assert report.seconds < 5
    assert not alive(pid)


def test_a_daemon_without_a_stamp_is_found_by_its_control_group_only(
    stop_conn, request, tmp_path
):
    """As documented: elsewhere nothing ties it to its job, so nobody looks for it."""
    live = stop_conn.run(daemon(tmp_path / "pid", is_empty=True), complete=False)
    pid = pid_in(tmp_path / "pid")
    report = live.stop(grace=5.0)
    assert report.complete
    is_found = pid in {one.pid for one in report.signalled}
    assert is_found == ("no cgroups" not in request.node.name)
    assert alive(pid) != is_found
    if not is_found:
        os.kill(pid, signal.SIGKILL)


def test_a_job_that_has_not_begun_yet_is_stopped(worker):
    with raw_client(worker) as client:
        client.send(
            Request(1, "pending", "run", {"command": "sleep 60"}),
            Request(2, "the-stop", "stop", {"job_id": "pending"}),
        )
        ends = [client.wait_for(Ended) for _ in range(2)]
    outcomes = {one.call: one.outcome for one in ends}
    assert outcomes[1].status == "STOPPED"
    assert outcomes[2].value[:2] == ["pending", "STOPPED"]


# -- causes


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [("exit 3", 3, "FAILED"), ("kill -KILL $$", -9, "FAILED"), (":", 0, "SUCCEEDED")],
)
def test_who_ends_by_itself_has_no_other_cause(conn, command, *, code, status):
    done = conn.run(command)
    assert (done.exit_code, done.status.value, done.reason) == (code, status, "")


def test_a_deadline_is_a_cause(conn):
    live = conn.run("sleep 60", timeout=0.2, complete=False)
    with pytest.raises(mlepool.CommandTimeoutError):
        live.wait()
    assert (live.status.value, live.reason) == ("TIMED_OUT", "timeout")


def test_whoever_stops_it_is_named(worker, conn):
    live = conn.run("sleep 60", complete=False)
    with mlepool.ClientPool() as pool, pool.add(f"unix:{worker.state_dir}") as other:
        assert other.stop(live.id).value.complete
    assert live.wait().reason == f"stopped by pid {os.getpid()} of uid {os.geteuid()}"


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group with 30 MiB of memory; what is in it is killed for more."""
    need_root()
    name = f"mlepool-test-{os.getpid()}"
    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup") / root / name
        try:
            group.mkdir()
            (group / limit).write_text(str(30 * 1024 * 1024))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        yield group
        wait_until(functools.partial(_is_removed, group))
        return
    lacking("a control group with limited memory")


def _is_removed(group: Path) -> bool:
    with contextlib.suppress(OSError):  # somebody is in it
        group.rmdir()
    return not group.exists()


@pytest.mark.parametrize("is_shell", [False, True], ids=["itself", "its child"])
def test_the_kernel_is_quoted_where_memory_ran_out(conn, small_memory, is_shell):
    hog = f"{sys.executable} -c 'x = bytearray(200 * 1024 * 1024)'"
    begin = f"echo $$ > {small_memory}/cgroup.procs"
    done = conn.run(f"{begin}; {hog}; exit $?" if is_shell else f"{begin}; exec {hog}")
    assert done.exit_code == (137 if is_shell else -9)
    assert done.status.value == "FAILED"
    assert done.reason == ("perhaps out of memory" if is_shell else "out of memory")


def test_a_killed_supervisor_is_a_cause_and_what_runs_is_named(own_worker):
    with mlepool.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        live = conn.run("echo on; exec sleep 60", complete=False)
        assert live.next() == "on"
        pid = conn.jobs().value[0].pid
        dead = kill_supervisor(own_worker.state_dir)
        live.wait()
        assert (live.status.value, live.exit_code) == ("LOST", None)
        assert live.reason == f"its supervisor was killed; it still runs as pid {pid}"
        assert live.output == "on\n"
        (info,) = conn.jobs().value
        assert (info.status, info.pid) == ("LOST", pid)
        report = conn.stop(live.id).value
        assert [one.pid for one in report.signalled] == [pid]
        assert (report.status, report.complete) == ("LOST", True)
        assert not alive(pid)
        wait_until(lambda: not Path(f"/proc/{dead}").exists())  # no zombie either
        assert conn.run("echo well").output == "well\n"


def test_who_asks_while_the_supervisor_is_replaced_is_answered(own_worker):
    with mlepool.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        live = conn.run("exec sleep 60", stdin=True, complete=False)
        (info,) = conn.jobs().value
        os.kill(supervisor_pid(own_worker.state_dir), signal.SIGSTOP)
        with ThreadPoolExecutor() as others:
            stopping = others.submit(conn.stop, live.id)
            assert conn.jobs().ok
            kill_supervisor(own_worker.state_dir)
            with pytest.raises(BrokenPipeError):
                live.send_input("x" * 300_000)
            report = stopping.result(20).value
        assert (report.status, report.complete) == ("LOST", True)
        assert [one.pid for one in report.signalled] == [info.pid]
        assert live.wait().status.value == "LOST"


# -- orphans


@contextlib.contextmanager
def orphans(port: int, seconds: float, count: int) -> Iterator[list[str]]:
    """Have a client start jobs; give their ids, and kill it at the end."""
    code = (
        "import mlepool, signal\n"
        f"conn = mlepool.add('127.0.0.1', {port}); conn.connect()\n"
        f"for _ in range({count}):\n"
        f"    live = conn.run('echo on; exec sleep 60', orphan_timeout={seconds},"
        " complete=False)\n"
        "    assert live.next() == 'on'\n"
        "    print(live.id, flush=True)\n"
        "signal.pause()"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        yield [client.stdout.readline().strip() for _ in range(count)]
        client.kill()


def test_a_job_whose_client_was_killed_is_stopped_as_orphaned(worker, conn):
    with orphans(worker.port, 0.5, count=2) as (read, unread):
        live = conn.attach(read)
    wait_until(lambda: unread not in running_ids(conn))
    done = conn.attach(unread).wait()
    assert (done.status.value, done.reason) == ("STOPPED", "orphaned")
    time.sleep(0.6)  # longer than the timeout
    assert read in running_ids(conn)
    live.close()
    wait_until(lambda: read not in running_ids(conn))
    assert conn.attach(read).wait().reason == "orphaned"


def running_ids(conn: mlepool.Connection) -> list[str]:
    return [one.id for one in conn.jobs().value if one.outcome is None]


def test_a_killed_worker_leaves_orphans_to_their_time(own_worker):
    with mlepool.ClientPool() as pool:
        conn = pool.add(f"unix:{own_worker.state_dir}", reconnect_timeout=0)
        conn.connect()
        live = conn.run("exec sleep 60", orphan_timeout=0.5, complete=False)
        forever = conn.run("exec sleep 60", complete=False)
        kept = [one.pid for one in conn.jobs().value if one.id == forever.id][0]
        pid = next(one.pid for one in conn.jobs().value if one.id == live.id)
        kill_worker(own_worker.state_dir)
        wait_until(lambda: not alive(pid))
        assert alive(kept)
    own_worker.end()
    again = RunningWorker(own_worker.state_dir.parent)
    try:
        with mlepool.ClientPool() as pool, pool.add("localhost", again.port) as conn:
            done = conn.attach(live.id).wait()
            assert (done.status.value, done.reason) == ("STOPPED", "orphaned")
            assert conn.stop(forever.id).value.complete
    finally:
        again.end()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True])
def test_no_time_is_no_orphan_timeout(conn, seconds):
    error = (
        ValueError
        if isinstance(seconds, int | float) and seconds is not True
        else TypeError
    )
    with pytest.raises(error, match="orphan_timeout"):
        conn.run("true", orphan_timeout=seconds, raise_error=True)


def test_kill_is_at_once_also_while_a_stop_waits(conn):
    code = (
        "import os, signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, lambda got, _: os.write(1, b'%d\\n' % got))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)"
    )
    live = conn.run([sys.executable, "-c", code], complete=False)
    assert live.next() == "ready"
    with ThreadPoolExecutor() as other:
        slow = other.submit(live.stop, grace=1000.0)
        assert live.next() == str(signal.SIGINT.value)
        assert conn.kill(live.id).value.complete
        assert slow.result().complete
    assert live.wait().exit_code == -signal.SIGKILL
    assert live.next() is None
