"""Sweeps over real workers that are killed and cut off, and clients that are killed."""

import contextlib
import csv
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import kill_supervisor, kill_worker
from mlepool.testing.proxy import FaultProxy
from mlepool.worker import serve_in_thread
from tests.conftest import RunningWorker, command_line, processes, wait_until

pytestmark = pytest.mark.real

LISTEN = "127.0.0.1:0"


@pytest.fixture(scope="module")
def quiet_ports(tmp_path_factory, worker) -> Iterator[list[int]]:
    """Two workers that nobody harms."""
    with serve_in_thread(state_dir=tmp_path_factory.mktemp("q"), listen=LISTEN) as one:
        yield [worker.port, one.port]


def start_again(worker: RunningWorker) -> RunningWorker:
    folder = worker.state_dir.parent
    return RunningWorker(folder, listen=f"127.0.0.1:{worker.port}")


def effects_in(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


def add_all(pool: mlepool.ClientPool, ports: list[int]) -> None:
    for number, port in enumerate(ports):
        pool.add("localhost", port, name=f"h{number}")


def test_200_runs_happen_once_each_over_a_killed_worker_and_cut_links(
    start_worker, quiet_ports, tmp_path
):
    effects = tmp_path / "effects"
    killed, cut = start_worker("killed"), start_worker("cut")
    with FaultProxy(cut.port) as proxy, mlepool.ClientPool() as pool:
        add_all(pool, [killed.port, proxy.port, *quiet_ports])
        sweep = pool.map(f"echo {{run}} >> {effects}", n=range(200), slots=2)
        harms: dict[int, Callable[[], object]]
        harms = {30: lambda: kill_worker(killed.state_dir)}
        harms |= {number: proxy.reset for number in (20, 50, 80, 110, 140)}
        for ended, run in enumerate(sweep, start=1):
            assert run.ok
            harms.pop(ended, lambda: None)()
            if ended == 60:
                killed.process.wait()
                again = start_again(killed)
    again.end()
    assert effects_in(effects) == {str(number): 1 for number in range(200)}
    rows = sweep.rows()
    assert [row["run"] for row in rows] == list(range(200))
    assert {row["status"] for row in rows} == {"SUCCEEDED"}
    assert {row["host"] for row in rows} == {"h0", "h1", "h2", "h3"}
    assert {row["attempts"] for row in rows} == {1}


CLIENT = """
import os, sys, mlepool
plan, effects, *ports = sys.argv[1:]
with mlepool.ClientPool() as pool:
    for number, port in enumerate(ports):
        pool.add("localhost", int(port), name=f"h{number}")
    if os.path.exists(plan):
        sweep = pool.resume(plan)
    else:
        command = f"echo {{run}} >> {effects}; sleep 0.02"
        sweep = pool.map(command, n=range(150), slots=3, plan=plan)
    sweep.wait()
"""


def test_a_client_is_killed_again_and_again_and_each_run_happens_once(
    quiet_ports, tmp_path
):
    plan, effects = tmp_path / "plan", tmp_path / "effects"
    ports = [str(one) for one in quiet_ports]
    words = [sys.executable, "-c", CLIENT, str(plan), str(effects), *ports]
    rng = random.Random(6)
    for number in (10, 50, 100):
        moment = number + rng.randrange(20)
        client = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        wait_until(lambda moment=moment: len(effects_in(effects)) > moment)
        client.kill()
        client.wait()
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        with pool.resume(plan) as sweep:
            sweep.check(timeout=20.0)
            assert sweep.counts == {"SUCCEEDED": 150}
    assert effects_in(effects) == {str(number): 1 for number in range(150)}


def test_a_run_whose_supervisor_was_killed_is_ended_and_repeated(
    start_worker, tmp_path
):
    worker = start_worker("own")
    effects = tmp_path / "effects"
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="h")
        command = f"echo {{run}} >> {effects}; test -e {tmp_path}/go || exec sleep 60"
        with pool.map(command, n=[1]) as sweep:
            wait_until(lambda: effects_in(effects))
            kill_supervisor(worker.state_dir)
            (tmp_path / "go").touch()
            sweep.check(timeout=20.0)
            assert (sweep[0].attempts, sweep[0].job_id[-2:]) == (2, "-1")
            first = pool["h"].job(f"{sweep.id}-0-0").value
        assert first.status == "LOST"
        assert effects_in(effects) == {"0": 2}
    assert not any("sleep 60" in one for one in processes_of(worker))


def processes_of(worker: RunningWorker) -> list[str]:
    found = []
    for pid in processes():
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if str(worker.state_dir).encode() in environment:
                found.append(command_line(pid))
    return found


def test_a_host_that_is_away_too_long_loses_its_run_which_is_stopped_there(
    quiet_ports, start_worker, tmp_path
):
    worker, pid = start_worker("away"), tmp_path / "pid"
    # A job knows its id: the first attempt never ends, the next one does.
    command = f"case $MLEPOOL_JOB in *-0) echo $$ > {pid}; exec sleep 60;; esac"
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        pool.add("localhost", proxy.port, name="away", labels={"may": "yes"})
        other = pool.add("localhost", quiet_ports[1], name="other")
        with pool.map(command, n=[1], lost_timeout=0.2, where="may=yes") as sweep:
            wait_until(lambda: pid.exists() and pid.read_text())
            assert (sweep[0].host, sweep.running) == ("away", [0])
            other.set_labels({"may": "yes"})
            proxy.refuse()
            proxy.reset()
            sweep.check(timeout=20.0)
            assert (sweep[0].host, sweep[0].attempts) == ("other", 2)
            other.set_labels({})
        # It stays in the plan that something is to be stopped there.
        proxy.accept()
        with pool.resume(sweep.plan):
            wait_until(lambda: '"buried"' in sweep.plan.read_text())
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_stopping_a_sweep_stops_what_runs_and_begins_nothing_more(quiet_ports):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        sweep = pool.map("sleep 60", n=range(9))
        wait_until(lambda: len(sweep.running) == 2)
        reports = sweep.stop("SIGTERM")
        assert [one.complete for one in reports.values()] == [True, True]
        assert sweep.counts == {"STOPPED": 2, "SKIPPED": 7}
        with pytest.raises(ExceptionGroup, match="2 of 9 runs") as caught:
            sweep.check()
        assert isinstance(caught.value.exceptions[0], mlepool.SweepRunError)


def test_failed_runs_are_repeated_and_resumed_on_demand(quiet_ports, tmp_path):
    command = f"echo {{n}} >> {tmp_path}/tries; test -e {tmp_path}/go || exit {{n}}"
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        with pool.map(command, n=[0, 3], retries=2) as sweep:
            sweep.wait(timeout=20.0)
            assert effects_in(tmp_path / "tries") == {"0": 1, "3": 3}
            assert [row["exit_code"] for row in sweep.rows()] == [0, 3]
        (tmp_path / "go").touch()
        with pool.resume(sweep.plan, failed=True) as again:
            assert again.check(timeout=20.0).ok
    assert effects_in(tmp_path / "tries") == {"0": 1, "3": 4}


def test_no_more_begin_once_too_many_have_failed(quiet_ports):
    with mlepool.ClientPool() as pool:
        pool.add("localhost", quiet_ports[0], name="h")
        for options, failed in (({"fail_fast": True}, 1), ({"max_failures": 2}, 3)):
            with pool.map("exit {n}", n=[1] * 9, slots=1, **options) as sweep:
                sweep.wait(timeout=20.0)
                assert sweep.counts == {"FAILED": failed, "SKIPPED": 9 - failed}


def test_closing_the_pool_leaves_what_runs_and_says_how_to_go_on(
    quiet_ports, tmp_path, caplog
):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports[:1])
        sweep = pool.map(f"read line < {tmp_path}/fifo; echo $line", n=[1, 2])
        wait_until(lambda: sweep.running)
    assert f"pool.resume({str(sweep.plan)!r}) goes on" in caplog.text
    with pytest.raises(mlepool.SweepPlanError, match="left before its end"):
        sweep.wait()


def test_submitted_runs_take_slots_in_turn_and_are_listeners(quiet_ports, tmp_path):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        first = [pool.submit("read line; echo $line", input="hi") for _ in range(2)]
        assert {one.wait(timeout=20.0).stdout for one in first} == {"hi\n"}
        assert {one.host for one in first} == {"h0", "h1"}
        held = [pool.submit("sleep 60") for _ in range(2)]
        waiting = [pool.submit(["echo", str(number)]) for number in range(3)]
        wait_until(lambda: all(one.status == "RUNNING" for one in held))
        assert {one.status for one in waiting} == {"PENDING"}
        assert waiting[1].stop().was_waiting
        for one in held:
            one.stop("SIGTERM")
        assert [list(one) for one in waiting] == [["0"], [], ["2"]]
        assert waiting[1].status == "STOPPED"
        odd = pool.submit(["/no/such/program"])
        assert isinstance(odd.wait(timeout=20.0).error, FileNotFoundError)
        with pytest.raises(TypeError, match="'sync'"):
            pool.submit("true", sync=".")
        late = [pool.submit("sleep 60") for _ in range(3)][2]
    assert (late.status, late.reason) == ("STOPPED", "closed before it began")


def test_points_and_the_last_line_are_columns_and_rows_go_to_csv(quiet_ports, tmp_path):
    command = "echo '#loss 1 '{lr}; echo '#loss 2 '{lr}; echo ran {lr} {name}"
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        given = {"lr": [0.5, 0.25], "name": ["a b"]}
        with pool["h*"].map(command, where="os=linux", **given) as sweep:
            sweep.check(timeout=20.0)
            assert sweep.output(1) == "#loss 1 0.25\n#loss 2 0.25\nran 0.25 a b\n"
            assert sweep[0].points == {"loss": 0.5}
            with pytest.raises(IndexError, match="no run 2"):
                sweep[2]
            with pytest.raises(ValueError, match="no host"):
                pool.select("os=none").map("true")
        sweep.to_csv(tmp_path / "out.csv")
        with open(tmp_path / "out.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    names = ["run", *given, "status", "exit_code", "host", "seconds", "attempts"]
    names += ["loss", "last"]
    assert list(rows[0]) == names == list(sweep.table().headers)
    assert [(row["lr"], row["loss"], row["last"]) for row in rows] == [
        *(("0.5", "0.5", "ran 0.5 a b"), ("0.25", "0.25", "ran 0.25 a b")),
    ]


def test_a_folder_is_synced_once_and_each_run_is_collected_apart(quiet_ports, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "job.sh").write_text("echo $1 > out.$2; sleep 0.01\n")
    with mlepool.ClientPool() as pool:
        pool.add("localhost", quiet_ports[1], name="h")
        options = {"collect": "out.{run}", "collect_to": tmp_path / "results/{run}"}
        sweep = pool.map(
            ["sh", "job.sh", "{x}", "{run}"],
            x=["a", "b"],
            sync=(tmp_path / "src", tmp_path / "there"),
            **options,
        )
        sweep.check(timeout=20.0)
    assert (tmp_path / "results/1/out.1").read_text() == "b\n"
    assert sweep.plan.read_text().count('"synced"') == 1


def test_ctrl_c_leaves_a_sweep_and_another_process_goes_on(quiet_ports, tmp_path):
    effects = tmp_path / "effects"
    words = [sys.executable, "-c", CLIENT, str(tmp_path / "plan"), str(effects)]
    client = subprocess.Popen(
        [*words, str(quiet_ports[1])], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(effects_in(effects)) > 5)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=20.0)
    assert "pool.resume(" in said
    assert "KeyboardInterrupt" in said
