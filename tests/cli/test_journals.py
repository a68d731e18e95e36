"""mlepool logs --state-dir: jobs on disk, with no worker there."""

import pytest

import mlepool as package
from mlepool.wire.records import HEADER_SIZE

pytestmark = pytest.mark.real


@pytest.fixture
def state_dir(own_worker):
    """The state folder of a worker that has run three jobs, and has ended."""
    with package.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        jobs = {
            "one": conn.run("seq 3; sleep .1; echo odd >&2; exit 4").id,
            "big": conn.run("seq 200000").id,
        }
        live = conn.run("echo on; sleep 60", complete=False, detach=True)
        live.next()
        jobs["live"] = live.id
    own_worker.end()
    yield own_worker.state_dir, jobs
    own_worker.__init__(own_worker.state_dir.parent)
    with package.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        conn.stop(jobs["live"], signal="SIGKILL")


def test_output_is_read_without_a_worker(state_dir, here):
    folder, jobs = state_dir
    call = ("logs", "--state-dir", str(folder))
    assert here(*call, jobs["one"]) == (0, "1\n2\n3\n", "odd\n")
    assert here(*call, jobs["one"][:9], "--tail", "1") == (0, "", "odd\n")
    numbers = "".join(f"{number}\n" for number in range(1, 200_001))
    assert here(*call, jobs["big"]) == (0, numbers, "")
    assert here(*call, jobs["live"]) == (0, "on\n", "")


def test_without_a_job_they_are_listed(state_dir, here, monkeypatch):
    monkeypatch.setenv("MLEPOOL_HOSTS", "gpu1")  # no option: it is not in the way
    folder, jobs = state_dir
    done = here("logs", "--state-dir", str(folder))
    assert (done.status, done.err) == (0, "")
    head, _, *rows = done.out.splitlines()
    assert head.split()[:3] == ["id", "status", "exit"]
    found = {row.split()[0]: row for row in rows}
    assert list(found) == list(jobs.values())  # by their start
    assert found[jobs["one"]].split()[1:3] == ["FAILED", "4"]
    assert found[jobs["big"]].endswith("seq 200000")
    assert " NO END " in found[jobs["live"]]


def test_what_is_cut_off_is_read_as_far_as_it_goes(state_dir, here):
    folder, jobs = state_dir
    path = folder / "jobs" / f"{jobs['big']}.journal"
    path.write_bytes(path.read_bytes()[:300_000])
    done = here("logs", "--state-dir", str(folder), jobs["big"], "--tail", "1")
    assert done.status == 0
    assert 0 < int(done.out) < 200_000
    path.write_bytes(b"")  # a supervisor that was killed before it began
    done = here("logs", "--state-dir", str(folder), jobs["big"])
    assert done.status == 1
    assert done.err == "mlepool: a journal has no whole HEAD block\n"
    assert "NOT BEGUN" in here("logs", "--state-dir", str(folder)).out


def test_what_is_damaged_is_read_as_far_as_it_is_whole(state_dir, here):
    folder, jobs = state_dir
    path = folder / "jobs" / f"{jobs['one']}.journal"
    data = path.read_bytes()
    at = data.index(b"odd\n") - HEADER_SIZE
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    done = here("logs", "--state-dir", str(folder), jobs["one"])
    assert (done.status, done.out) == (1, "1\n2\n3\n")
    assert done.err.startswith("mlepool: the journal is damaged, as is seen at ")
    path.write_bytes(data.replace(b"odd\n", b"old\n"))
    done = here("logs", "--state-dir", str(folder), jobs["one"])
    assert (done.status, done.out) == (1, "1\n2\n3\n")
    assert done.err.startswith(
        "old\nmlepool: the journal is damaged, as is seen at its"
    )


def test_what_is_no_job_or_no_state_folder_is_one_line(state_dir, here, tmp_path):
    folder, _ = state_dir
    done = here("logs", "--state-dir", str(folder), "zz")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool: there is no job 'zz' in {folder}; ")
    done = here("logs", "--state-dir", str(tmp_path / "none"))
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert done.err.startswith("mlepool: cannot read ")
