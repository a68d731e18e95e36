"""Runs with files: the tree that a job runs in, and the results that come back."""

import json
import os
import subprocess
import sys

import pytest

import mlepool
from mlepool.testing.proxy import FaultProxy
from tests.cli.shell import mlepool as cli
from tests.conftest import wait_until
from tests.tools import in_real_time

pytestmark = pytest.mark.real

TRAIN = """
import pathlib, sys
out = pathlib.Path("out")
out.mkdir(exist_ok=True)
(out / "deep").mkdir(exist_ok=True)
(out / "deep" / "model").write_text(pathlib.Path("data").read_text() * 2)
(out / "log").write_text("done")
pathlib.Path("scratch").write_text("nobody wants this")
print("trained", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "data").write_text("7")
    (folder / ".gitignore").write_text("out/\n")
    return folder


TRAINING = [sys.executable, "train.py"]


def test_a_run_syncs_runs_there_and_brings_back(conn, code, tmp_path):
    there = tmp_path / "there"
    job = conn.run(TRAINING, sync=(code, there), collect="out/**", raise_error=True)
    assert job.output == "trained\n"
    assert (there / "train.py").is_file()
    # Ignored by the tree's own patterns, and asked for all the same.
    assert (code / "out" / "deep" / "model").read_text() == "77"
    assert (code / "out" / "log").read_text() == "done"
    assert not (code / "scratch").exists()
    assert (job.collected.sent, job.collected.problems) == (2, ())
    info = conn.job(job.id).value
    assert info.files == mlepool.JobFiles(job_digest(conn, code, there), ("out/**",))
    assert info.cwd == str(there)


def job_digest(conn, code, there):
    return conn.sync(code, there).value.digest


def test_other_code_has_another_digest_and_the_same_the_same(conn, code, tmp_path):
    def run():
        job = conn.run("true", sync=code, cwd=str(tmp_path / "there"))
        return conn.job(job.id).value.files.tree

    first = run()
    assert len(first) == 64
    assert run() == first
    (code / "data").write_text("8")
    second = run()
    assert second != first
    listed = {info.files.tree for info in conn.jobs().value}
    assert {first, second} <= listed


def test_where_the_tree_goes_by_default(conn, worker, code):
    job = conn.run("pwd", sync=code, raise_error=True)
    place = worker.log_path.parent / "experiment"
    assert job.output == f"{place}\n"
    assert (place / "data").read_text() == "7"


@pytest.mark.parametrize("complete", [True, False])
def test_a_sync_that_fails_runs_nothing(conn, tmp_path, complete):
    mark, keywords = tmp_path / "mark", {"complete": complete}
    job = conn.run(["touch", str(mark)], sync=tmp_path / "nowhere", **keywords)
    assert (job.status, job.done, job.exit_code) == ("FAILED", complete, None)
    assert (job.command, job.host) == (f"touch {mark}", conn.name)
    assert isinstance(job.error, FileNotFoundError)
    assert (list(job), job.output, job.wait().value) == ([], "", None)
    assert job.stop().status == "FAILED"
    assert job.read() == ""
    keywords["raise_error"] = True
    with pytest.raises(OSError, match="nowhere"):
        conn.run(["touch", str(mark)], sync=tmp_path / "nowhere", **keywords)
    assert not mark.exists()
    assert job.id not in {info.id for info in conn.jobs().value}


def test_a_sync_that_halts_is_the_error_of_a_run(conn, worker, code, *, tmp_path):
    there, empty = tmp_path / "there", tmp_path / "empty"
    empty.mkdir()
    conn.sync(code, there)
    job = conn.run("true", sync=(empty, there))
    assert isinstance(job.error, mlepool.SyncHaltedError)
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="one")
        [found] = pool.run("true", sync=(empty, there)).values()
    assert (found.status, type(found.error)) == (job.status, type(job.error))


@in_real_time
async def test_so_it_is_on_the_async_face(worker, tmp_path):
    pool = mlepool.AsyncClientPool()
    async with pool, pool.add("localhost", worker.port) as conn:
        job = await conn.run("true", sync=tmp_path / "nowhere")
        assert isinstance((await job.wait()).error, FileNotFoundError)
        conn.raise_error = True
        with pytest.raises(FileNotFoundError):
            await conn.run("true", sync=tmp_path / "nowhere")


INTERRUPTED = """
import logging, signal, sys, threading, time, mlepool
logging.basicConfig(format="%(message)s")
source, there, mark, *ports = sys.argv[1:]
with mlepool.ClientPool() as pool:
    conn, slow = (pool.add("localhost", int(port)) for port in ports)
    pool.connect()
    held = slow.sync(source, there, complete=False)  # holds the tree
    while not (held.progress and held.progress.bytes):
        time.sleep(0.01)
    press = threading.main_thread().ident, signal.SIGINT
    threading.Timer(0.2, signal.pthread_kill, press).start()
    try:
        conn.run("touch " + mark, sync=(source, there))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_before_it_has_begun_leaves_nothing_that_goes_on(worker, tmp_path):
    source, mark = tmp_path / "source", tmp_path / "mark"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(40_000_000))
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(2_000_000)  # bytes a second: no end in sight
        words = [str(source), str(tmp_path / "there"), str(mark)]
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                INTERRUPTED,
                *words,
                str(worker.port),
                str(proxy.port),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "interrupted\n"
    assert "goes on" not in done.stderr
    assert not mark.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sync": 7},
        {"sync": ("one",)},
        {"sync": {"destination": "x"}},
        {"sync": {"source": "x", "pull": True}},
        {"sync": {"source": "x", "nonsense": True}},
        {"collect_to": "here"},
        {"collect": 7},
        {"collect": "x", "collect_to": 7},
    ],
)
def test_what_it_can_not_be_is_refused(conn, tmp_path, wrong):
    mark = tmp_path / "mark"
    with pytest.raises(TypeError):
        conn.run(["touch", str(mark)], raise_error=True, **wrong)
    assert not mark.exists()


def test_what_can_not_be_synced_and_is_no_result_is_no_fault(conn, tmp_path):
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "pipe")
    there = {"cwd": str(tmp_path), "collect": "out/**"}
    job = conn.run("echo 1 > out/r", collect_to=tmp_path / "one", **there)
    assert (job.error, job.collected.problems) == (None, ())
    os.mkfifo(tmp_path / "out" / "pipe")
    job = conn.run("true", collect_to=tmp_path / "two", **there)
    assert isinstance(job.error, mlepool.SyncIncompleteError)
    assert [one.path for one in job.error.summary.problems] == ["out/pipe"]


def test_results_that_do_not_come_back_are_told(conn, code, tmp_path):
    (tmp_path / "file").write_text("in the way")
    there = str(tmp_path / "there")
    keywords = {"sync": (code, there), "collect": "out", "complete": True}
    job = conn.run(TRAINING, collect_to=tmp_path / "file", **keywords)
    assert (job.ok, job.exit_code, job.collected) == (True, 0, None)
    assert isinstance(job.error, OSError)
    with pytest.raises(OSError, match="file"):
        conn.run(TRAINING, collect_to=tmp_path / "file", raise_error=True, **keywords)


def test_a_job_that_fails_leaves_its_results_too(conn, tmp_path):
    job = conn.run(
        "echo 1 > result; exit 3",
        cwd=str(tmp_path),
        collect="result",
        collect_to=tmp_path / "back",
    )
    assert job.exit_code == 3
    assert (tmp_path / "back" / "result").read_text() == "1\n"


@pytest.fixture
def both(worker, own_worker):
    """Two hosts, each with a folder of its own; one's name is no file name."""
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="one")
        pool.add("localhost", own_worker.port, name="lab/two")
        yield pool


@pytest.mark.parametrize("place", ["all", "all/{host}"])
def test_what_several_hosts_leave_comes_into_a_folder_for_each(both, tmp_path, place):
    command = "mkdir -p group-out && pwd > group-out/place"
    done = both.run(command, collect="group-out/**", collect_to=tmp_path / place)
    done.check()
    said = both.run("pwd").check()
    wanted = {"one": said["one"].output, "lab_two": said["lab/two"].output}
    assert wanted["one"] != wanted["lab_two"]
    assert {one.name for one in (tmp_path / "all").iterdir()} == set(wanted)
    for name, text in wanted.items():
        back = tmp_path / "all" / name / "group-out" / "place"
        assert back.read_text() == text
    assert [one.collected.sent for one in done.values()] == [1, 1]


def test_by_default_the_folders_are_in_the_one_that_was_synced(both, code):
    done = both.exec(["cp", "data", "result"], sync=code, collect="result")
    assert done.check().ok
    for name in ("one", "lab_two"):
        assert (code / name / "result").read_text() == "7"
    assert not (code / "result").exists()


def test_of_a_group_of_one_it_is_a_folder_too_and_no_path_runs_nothing(both, tmp_path):
    group, there = both.group("one"), tmp_path / "there"
    there.mkdir()
    run = {"cwd": str(there), "collect": "r", "collect_to": tmp_path / "all"}
    group.run("echo 1 > r", raise_error=True, **run)
    assert (tmp_path / "all" / "one" / "r").read_text() == "1\n"
    for call in (group.run, group.submit):
        with pytest.raises(TypeError, match="collect_to must be a path, not int"):
            call(["touch", str(tmp_path / "mark")], collect="r", collect_to=7)
    assert not (tmp_path / "mark").exists()


def test_the_end_is_told_once_the_results_are_here(conn, tmp_path):
    back = tmp_path / "back"
    job = conn.run(
        "echo one; echo 1 > result",
        cwd=str(tmp_path),
        collect=["result"],
        collect_to=back,
        complete=False,
    )
    assert list(job) == ["one"]
    assert (back / "result").read_text() == "1\n"
    assert job.collected.sent == 1


def test_a_detached_job_is_collected_by_who_attaches(worker, code, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        job = conn.run(
            TRAINING,
            sync=(code, there),
            collect=["out/**"],
            detach=True,
            stdin=True,
            complete=False,
        )
        assert job.next() == "trained"
    assert not (code / "out").exists()
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        again = conn.attach(job.id, collect_to=back)
        again.send_input("\n")
        again.wait(20)
        assert (back / "out" / "deep" / "model").read_text() == "77"
        assert again.collected.sent == 2
        with pytest.raises(LookupError):
            conn.attach("0" * 16, collect_to=back)
        plain = conn.run("true")
        with pytest.raises(ValueError, match="nothing to collect"):
            conn.attach(plain.id, collect_to=back)


def test_the_record_outlives_worker_and_supervisor(own_worker, start_worker, code):
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", own_worker.port)
        conn.connect()
        job = conn.run("true", sync=code, collect="out")
        files = conn.job(job.id).value.files
        assert files.tree
        own_worker.end()
        wait_until(lambda: not conn.is_connected)
    again = start_worker("own")
    with mlepool.ClientPool() as pool, pool.add("localhost", again.port) as conn:
        assert conn.job(job.id).value.files == files


def test_from_the_command_line(worker, code, tmp_path):
    host = f"localhost:{worker.port}"
    there = str(tmp_path / "there")
    words = ["--sync", str(code), "--cwd", there, "--collect", "out"]
    done = cli("run", "-H", host, *words, "--", *TRAINING)
    assert (done.status, done.out, done.err) == (0, "trained\n", "")
    assert (code / "out" / "log").read_text() == "done"
    listed = json.loads(cli("jobs", "-H", host, "--all", "--json").out)
    [mine] = [one for one in listed if one["cwd"] == there]
    assert (len(mine["tree"]), mine["collect"]) == (64, ["out"])
    assert mine["tree"][:12] in cli("jobs", "-H", host, "--all").out
    back = str(tmp_path / "back")
    done = cli("attach", "-H", host, mine["id"], "--collect-to", back)
    assert (done.status, done.out) == (0, "trained\n")
    assert mine["tree"] in done.err
    assert (tmp_path / "back" / "out" / "log").read_text() == "done"
