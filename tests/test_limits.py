"""Output that is more than may be kept: quotas, full disks, jobs of the past."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.supervisor.blocks import journal_path
from mlepool.supervisor.journal import Journal
from mlepool.wire.messages import Ended, Request
from tests.conftest import RunningWorker, wait_until
from tests.needs import small_disk
from tests.raw import raw_client

pytestmark = pytest.mark.real

MIB = 1024 * 1024
LINE = 100  # bytes of each numbered line
NUMBERED = "import sys; w = sys.stdout.write\nfor n in range({}): w('%099d\\n' % n)"


def numbered(count: int) -> list[str]:
    """Make a command that prints numbered lines."""
    return [sys.executable, "-c", NUMBERED.format(count)]


@pytest.fixture
def start(start_worker, tmp_path) -> Callable[..., RunningWorker]:
    """Start a worker with settings; again under the same name, after its end."""

    def start(settings: str = "", name: str = "limited") -> RunningWorker:
        state = tmp_path / name / "state"
        state.mkdir(parents=True, exist_ok=True)
        (state / "config.toml").write_text(settings)
        running: RunningWorker = start_worker(name)
        return running

    return start


@pytest.fixture
def limited(start) -> Iterator[tuple[RunningWorker, mlepool.Connection]]:
    """A worker that keeps 1 MiB of each job."""
    worker = start('job_quota = "1 MiB"\nkeep_free = 0\n')
    with connected(worker) as conn:
        yield worker, conn


def connected(worker: RunningWorker) -> mlepool.Connection:
    return mlepool.add("127.0.0.1", worker.port, name=f"limits-{time.monotonic_ns()}")


def check_gap(lines: list[str], count: int) -> int:
    """See that lines are the first and the last ones of so many.

    Returns:
        How many bytes are said to be missing: as many as are.
    """
    (at,) = (n for n, line in enumerate(lines) if line.startswith("[mlepool: "))
    missing = int(lines[at].split()[1])
    numbers = [int(one) for one in lines[:at] + lines[at + 1 :] if len(one) == LINE - 1]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == count - 1
    got = sum(len(one) for one in lines[:at] + lines[at + 1 :])
    got += len(numbers)  # their newlines; lines that were cut at the gap have none
    assert count * LINE - missing <= got + 1 <= count * LINE - missing + 2
    return missing


def size_on_disk(worker: RunningWorker, job_id: str) -> int:
    path = journal_path(worker.state_dir / "jobs", job_id)
    return os.stat(path).st_blocks * 512


def test_at_the_quota_head_and_tail_are_kept_and_the_gap_is_said(limited):
    worker, conn = limited
    count = 80_000
    live = conn.run(numbered(count), complete=False, memory=0)
    assert conn.run("sleep 0.2").ok  # it is read late
    wait_until(lambda: end_on_disk(worker, live.id) is not None)
    assert size_on_disk(worker, live.id) <= 1.1 * MIB
    missing = check_gap(list(live), count)
    assert missing >= count * LINE - 5.5 * MIB
    assert (live.exit_code, live.ok) == (0, True)
    later = conn.attach(live.id)
    again = check_gap(list(later), count)
    assert again >= count * LINE - 1.1 * MIB
    assert (later.exit_code, later.ok) == (0, True)
    logs = [sys.executable, "-m", "mlepool", "logs", "--state-dir"]
    done = subprocess.run(
        [*logs, str(worker.state_dir), live.id], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{again} bytes of stdout were not kept" in done.stderr
    assert len(done.stdout) == count * LINE - again


def test_who_keeps_up_loses_nothing_though_it_is_more_than_the_quota(limited):
    _, conn = limited
    slow = "import sys, time\nfor n in range({}):\n print('%099d' % n)\n"
    slow += " if n % 1000 == 0: sys.stdout.flush(); time.sleep(0.02)"
    count = 60_000
    live = conn.run([sys.executable, "-c", slow.format(count)], complete=False)
    assert [int(line) for line in live] == list(range(count))
    assert live.ok


def test_a_reader_that_lags_behind_gaps_gets_to_the_end(limited):
    _, conn = limited
    count = 300_000
    live = conn.run(numbered(count), complete=False, memory=0)
    lines = []
    for number, line in enumerate(live):
        lines.append(line)
        if number % 2000 == 0:
            time.sleep(0.002)  # the job is faster, the quota far behind it
    assert live.ok
    said = [line for line in lines if line.startswith("[mlepool: ")]
    assert said
    assert lines[0] == "0" * 99
    assert int(lines[-1]) == count - 1
    numbers = [int(one) for one in lines if len(one) == LINE - 1 and one.isdigit()]
    assert numbers == sorted(set(numbers))


def test_output_that_left_memory_is_read_again_beyond_a_gap(limited):
    _, conn = limited
    script = "import sys\nfor n in range(30000): print('%099d' % n)\n"
    script += "sys.stdout.flush(); sys.stdin.read(1)\n"
    script += "for n in range(30000, 60000): print('%099d' % n)"
    command = [sys.executable, "-c", script]
    live = conn.run(command, complete=False, stdin=True, memory=0)
    got = [live.next()]
    while not (got[-1].isdigit() and int(got[-1]) >= 20_000):
        got.append(live.next())  # there may be a gap already, on a busy machine
    live.send_input("x")
    live.wait()
    got += list(iter(live.next, None))
    numbers = [int(one) for one in got if len(one) == LINE - 1 and one.isdigit()]
    assert numbers == sorted(set(numbers))  # none twice
    assert (numbers[0], numbers[-1]) == (0, 59_999)
    gone = sum(int(one.split()[1]) for one in got if one.startswith("[mlepool: "))
    kept = [one for one in got if not one.startswith("[mlepool: ")]
    assert gone
    assert sum(len(one) + len(one.end) for one in kept) + gone == 60_000 * LINE


# -- full disks


@pytest.fixture
def on_small_disk(start, tmp_path) -> Iterator[tuple[RunningWorker, Path]]:
    """A worker whose state is on a disk of 64 MiB, and a file that may fill it."""
    state = tmp_path / "limited" / "state"
    with small_disk(state, "64m"):
        worker = start()
        yield worker, state / "hog"
        worker.end()


def fill(hog: Path) -> None:
    """Leave no byte of a disk free."""
    with open(hog, "ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                for _ in range(100 * MIB // size):
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_job_leaves_a_part_of_the_disk_free_and_others_go_on(on_small_disk):
    worker, hog = on_small_disk
    hog.write_bytes(bytes(28 * MIB))  # somebody else's
    with connected(worker) as conn:
        count = 400_000
        live = conn.run(numbered(count), complete=False, memory=0)
        for number in range(5):
            assert conn.run(f"echo {number}").output == f"{number}\n"
        live.wait()
        assert live.ok
        disk = os.statvfs(worker.state_dir)
        assert disk.f_bavail >= 0.05 * disk.f_blocks
        lines = list(conn.attach(live.id))
        check_gap(lines, count)
    with connected(worker) as conn:
        assert conn.state["disk"]["status"] in ("ok", "low")


def test_on_a_full_disk_output_is_lost_and_said_until_there_is_room(on_small_disk):
    worker, hog = on_small_disk
    with connected(worker) as conn:
        live = conn.run("cat", stdin=True, complete=False)
        live.send_input("before\n")
        assert live.next() == "before"
        fill(hog)
        live.send_input("x" * 99_999 + "\n")
        wait_until(lambda: conn.jobs().value[-1].dropped == 100_000)
        assert conn.run("echo no", raise_error=False).status.value == "FAILED"
        with connected(worker) as other:
            found = other.state["disk"]
            assert (found["status"], found["dropped"]) == ("full", 100_000)
            assert found["free"] < MIB
        wait_until(lambda: conn.state["disk"]["status"] == "full")  # it is told of it
        hog.unlink()
        live.send_input("after\n")
        assert live.next() == "[mlepool: 100000 bytes of output were not kept]"
        assert live.next() == "after"
        live.close_input()
        assert live.wait().ok
        assert conn.run("echo yes").output == "yes\n"
        wait_until(lambda: "full" in worker.log)
        assert worker.log.count("is full") == 1


def test_an_end_that_finds_no_room_is_told_and_written_later(on_small_disk):
    worker, hog = on_small_disk
    with connected(worker) as conn:
        live = conn.run("cat", stdin=True, complete=False)
        live.send_input("before\n")
        assert live.next() == "before"
        fill(hog)
        while not conn.jobs().value[-1].dropped:  # the last page of the file is full
            live.send_input("lost, perhaps\n")
            conn.run("true")
        live.send_input("lost\n" * 4000)
        live.close_input()
        assert live.wait().exit_code == 0
        assert list(live)[-1].startswith("[mlepool: 20")
        assert end_on_disk(worker, live.id) is None
        hog.unlink()
        wait_until(lambda: end_on_disk(worker, live.id) is not None)
        assert list(conn.attach(live.id)) == list(live)


def end_on_disk(worker: RunningWorker, job_id: str) -> object:
    journal = Journal(worker.state_dir / "jobs", job_id)
    try:
        return journal.outcome()
    finally:
        journal.close()


# -- jobs of the past


def journals(worker: RunningWorker) -> set[str]:
    folder = worker.state_dir / "jobs"
    return {path.stem for path in folder.glob("*.journal")}


def run_some(worker: RunningWorker, command: str, count: int) -> list[str]:
    """Run jobs one after the other, and leave one that goes on; it is the last."""
    with connected(worker) as conn:
        done = [conn.run(command).id for _ in range(count)]
        going = conn.run("exec sleep 60", complete=False, detach=True)
        return [*done, going.id]


def sweep(start: Callable[..., RunningWorker], worker: RunningWorker, rule: str):
    """Start the worker anew, with a rule; it sweeps at its start."""
    worker.end()
    time.sleep(0.15)  # what was written to in the last tenth of a second stays
    return start(rule)


def test_a_job_leaves_one_small_file_behind(own_worker):
    def files() -> dict[Path, int]:
        # Samples of the host come by themselves.
        found = own_worker.state_dir.rglob("*")
        ours = [path for path in found if "samples" not in path.parts]
        return {path: path.lstat().st_size for path in ours}

    with connected(own_worker) as conn:
        conn.run("true")
        before = files()
        started = [conn.run("echo x", complete=False) for _ in range(100)]
        assert all(live.wait().ok for live in started)
        after = files()
    new = [size for path, size in after.items() if path not in before]
    assert len(new) <= 100
    assert max(new) < 1000


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("retain_jobs = 2", 2),
        ("retain_days = 0", 0),
        ('retain_size = "250 KB"', 2),
        ("retain_days = 0.001", 4),
    ],
)
def test_old_jobs_are_let_go_of_but_none_that_runs(start, rule, kept):
    worker = start()
    *done, going = run_some(worker, "head -c 100000 /dev/zero", 4)
    assert journals(worker) == {*done, going}
    worker = sweep(start, worker, rule)
    wait_until(lambda: journals(worker) == {*done[4 - kept :], going})
    with connected(worker) as conn:
        for job_id in done[: 4 - kept]:
            with pytest.raises(LookupError):
                conn.attach(job_id)
        for job_id in done[4 - kept :]:
            assert conn.attach(job_id).wait().ok
        assert conn.stop(going).value.complete


def test_what_may_have_run_is_not_run_again_after_it_was_let_go(start, tmp_path):
    worker = start()
    ran = tmp_path / "ran"
    run_some(worker, f"echo x >> {ran}", 1)
    asked_before = time.time() - 1
    worker = sweep(start, worker, "retain_jobs = 0")
    wait_until(lambda: len(journals(worker)) == 1)
    for _ in range(2):
        with raw_client(worker) as client:
            age = time.time() - asked_before
            arguments = {"command": f"echo x >> {ran}"}
            client.send(Request(1, "again", "run", arguments, MIB, age=age))
            outcome = client.wait_for(Ended).outcome
            assert outcome.status == "LOST"
            assert "it was not run now" in outcome.reason
            client.send(Request(2, "new", "run", arguments, MIB, age=0.001))
            assert client.wait_for(Ended).outcome.status == "SUCCEEDED"
        assert ran.read_text() == "x\n" * 2  # the first one, and that which is new
        worker = sweep(start, worker, "")
    with connected(worker) as conn:
        for info in conn.jobs().value:
            assert conn.stop(info.id).value.complete


def test_a_disk_that_gets_full_is_given_the_room_of_old_jobs(on_small_disk):
    worker, hog = on_small_disk
    with connected(worker) as conn:
        old = [conn.run("head -c 8000000 /dev/zero").id for _ in range(5)]
        live = conn.run("cat", stdin=True, complete=False)
        live.send_input("before\n")
        fill(hog)
        live.send_input("x" * 9999 + "\n")
        wait_until(lambda: not journals(worker) & set(old[:1]))
        wait_until(lambda: os.statvfs(hog.parent).f_bavail > 0)
        live.send_input("after\n")
        live.close_input()
        assert live.wait().ok
        assert list(live)[-1] == "after"
