"""Sweeps over real workers that are killed and cut off, and clients that are killed."""

import contextlib
import csv
import gc
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.client.sweeps import prospects
from mlepool.client.sweeps.plan_file import PlanFile
from mlepool.client.sweeps.records import Given, Head, Host
from mlepool.errors import SweepPlanError
from mlepool.testing.kill import kill_supervisor, kill_worker
from mlepool.testing.proxy import FaultProxy
from mlepool.worker import serve_in_thread
from mlepool.worker.embedding import WorkerThread
from tests.conftest import wait_until
from tests.needs import small_disk

pytestmark = pytest.mark.real

LISTEN = "127.0.0.1:0"


def serve(state_dir: Path) -> WorkerThread:
    return serve_in_thread(state_dir=state_dir, listen=LISTEN)


@pytest.fixture(scope="module")
def quiet_ports(tmp_path_factory, worker) -> Iterator[list[int]]:
    """Two workers that nobody harms."""
    with serve(tmp_path_factory.mktemp("quiet")) as other:
        yield [worker.port, other.port]


def effects_in(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


def add_all(pool: mlepool.ClientPool, ports: list[int]) -> None:
    for number, port in enumerate(ports):
        pool.add("localhost", port, name=f"h{number}")


def test_200_runs_happen_once_each_over_a_killed_worker_and_cut_links(
    start_worker, quiet_ports, tmp_path
):
    effects = tmp_path / "effects"
    killed = start_worker("killed")
    with (
        serve(tmp_path / "cut") as cut,
        FaultProxy(cut.port) as proxy,
        mlepool.ClientPool() as pool,
    ):
        add_all(pool, [killed.port, proxy.port, *quiet_ports])
        sweep = pool.map(f"echo {{run}} >> {effects}", axes={"n": range(200)}, slots=2)
        harms: dict[int, Callable[[], object]]
        harms = {30: lambda: kill_worker(killed.state_dir)}
        harms |= {number: proxy.reset for number in (20, 50, 80, 110, 140)}
        for ended, run in enumerate(sweep, start=1):
            assert run.ok
            harms.pop(ended, lambda: None)()
            if ended == 60:
                killed.process.wait()
                start_worker("killed", listen=f"127.0.0.1:{killed.port}")
    assert effects_in(effects) == {str(number): 1 for number in range(200)}
    rows = sweep.rows()
    assert [row["run"] for row in rows] == list(range(200))
    assert {row["status"] for row in rows} == {"SUCCEEDED"}
    assert {row["host"] for row in rows} == {"h0", "h1", "h2", "h3"}
    assert {row["attempts"] for row in rows} == {1}


CLIENT = """
import os, sys, mlepool
plan, effects, go, *ports = sys.argv[1:]
with mlepool.ClientPool() as pool:
    for number, port in enumerate(ports):
        pool.add("localhost", int(port), name=f"h{number}")
    if os.path.exists(plan):
        sweep = pool.resume(plan)
    else:
        # The last ones wait: no client comes to the end before it is killed.
        wait = f"until [ {{run}} -lt 90 -o -e {go} ]; do sleep 0.02; done"
        command = f"echo {{run}} >> {effects}; sleep 0.02; {wait}"
        sweep = pool.map(command, axes={"n": range(100)}, slots=3, plan=plan)
    sweep.wait()
"""


def test_clients_are_killed_and_each_run_happens_once(quiet_ports, tmp_path):
    plan, effects, go = (tmp_path / name for name in ("plan", "effects", "go"))
    ports = [str(one) for one in quiet_ports]
    words = [sys.executable, "-c", CLIENT, *map(str, (plan, effects, go)), *ports]
    rng = random.Random(6)
    for number, end in ((10, signal.SIGKILL), (40, signal.SIGINT)):
        moment = number + rng.randrange(20)
        client = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        wait_until(lambda moment=moment: len(effects_in(effects)) > moment)
        client.send_signal(end)
        try:
            _, said = client.communicate(timeout=20.0)
        finally:
            client.kill()
    # Ctrl-C says how to go on.
    assert f"pool.resume({str(plan)!r}) goes on" in said
    assert "KeyboardInterrupt" in said
    go.touch()
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        with pool.resume(plan) as sweep:
            sweep.check(timeout=20.0).wait(0)
            assert sweep.counts == {"SUCCEEDED": 100}
    assert effects_in(effects) == {str(number): 1 for number in range(100)}


def is_alive(pid: Path) -> bool:
    """Tell if a process runs; one that nobody has reaped does not."""
    try:
        stat = Path(f"/proc/{pid.read_text().strip()}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# A job knows its id: the first attempt never ends, the next one does.
ONCE_FOR_EVER = "case $MLEPOOL_JOB in *-0) echo $$ > {pid}; exec sleep 60;; esac"


def test_a_run_whose_supervisor_was_killed_is_ended_and_repeated(tmp_path):
    pid = tmp_path / "pid"
    with serve(tmp_path / "state") as worker, mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="h")
        with pool.map(
            ONCE_FOR_EVER.replace("{pid}", str(pid)), axes={"n": [1]}
        ) as sweep:
            wait_until(lambda: pid.exists() and pid.read_text())
            kill_supervisor(tmp_path / "state")
            sweep.check(timeout=20.0)
            assert (sweep[0].attempts, sweep[0].job_id[-2:]) == (2, "-1")
        assert pool["h"].job(f"{sweep.id}-0-0").value.status == "LOST"
    assert not is_alive(pid)


def test_a_host_that_is_away_too_long_loses_its_run_which_is_stopped_there(
    quiet_ports, tmp_path
):
    pid = tmp_path / "pid"
    command = ONCE_FOR_EVER.replace("{pid}", str(pid))
    with (
        serve(tmp_path / "state") as worker,
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
    ):
        pool.add("localhost", proxy.port, name="away", labels={"may": "yes"})
        other = pool.add("localhost", quiet_ports[1], name="other")
        with pool.map(
            command, axes={"n": [1]}, lost_timeout=0.2, where="may=yes"
        ) as sweep:
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
    assert not is_alive(pid)


def test_stopping_a_sweep_stops_what_runs_and_begins_nothing_more(quiet_ports):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        sweep = pool.map("sleep 60", axes={"n": range(9)})
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
        with pool.map(command, axes={"n": [0, 3]}, retries=2) as sweep:
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


def test_closing_the_pool_leaves_what_runs_and_says_how_to_go_on(quiet_ports, caplog):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports[:1])
        sweep = pool.map("sleep 60", axes={"n": [1, 2]})
        wait_until(lambda: sweep.running)
    assert f"pool.resume({str(sweep.plan)!r}) goes on" in caplog.text
    with pytest.raises(mlepool.SweepPlanError, match="left before its end"):
        sweep.wait()
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports[:1])
        again = pool.resume(sweep.plan)
        wait_until(lambda: pool["h0"].is_connected and again.running)
        assert [one.status for one in again.stop("SIGTERM").values()] == ["STOPPED"]
        assert again.counts == {"STOPPED": 1, "SKIPPED": 1}


def test_a_sweep_that_was_left_is_not_stopped_as_if_nothing_ran(quiet_ports):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        sweep = pool.map("sleep 60; echo {n}", n=[1, 2], slots={"h0": 1, "h1": 0})
        wait_until(lambda: sweep.running)
        sweep.close()
        with pytest.raises(SweepPlanError, match="left before its end"):
            sweep.stop()
        again = pool.resume(sweep.plan)
        wait_until(lambda: pool["h0"].is_connected and again.running)
        assert [one.status for one in again.stop("SIGTERM").values()] == ["STOPPED"]
        assert again.stop() == {}


def test_nothing_is_put_on_a_closed_pool_or_on_no_slots(tmp_path, worker):
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="h0")
        group = pool["h*"]
        for call in (pool.map, pool.submit):
            with pytest.raises(ValueError, match="slots must be 1 or more, not 0"):
                call("true", slots=0)
    plan = tmp_path / "plan"
    for made in (pool, group):
        with pytest.raises(ValueError, match=r"no host .* \(any more\)"):
            made.map("true {n}", n=[1], plan=plan)
        with pytest.raises(ValueError, match=r"no host .* \(any more\)"):
            made.submit("true")
    assert not plan.exists()


@pytest.fixture
def impatient(monkeypatch):
    """Have sweeps wait only a moment for facts that hosts find out."""
    monkeypatch.setattr(prospects, "PATIENCE", 0.1)


def test_what_no_host_can_ever_take_is_refused_at_once(quiet_ports, tmp_path):
    plan = tmp_path / "plan"
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        pool.add("localhost", 1, name="off", labels={"gpu": "a100"})
        with pytest.raises(ValueError, match="no host 'h3'; there are h0, h1"):
            pool.map("true", slots={"h3": 2}, plan=plan)
        with pytest.raises(ValueError, match="no host 'h3'; there are h0, h1"):
            pool.submit("true", slots={"h3": 2})
        with pytest.raises(ValueError, match="off: its labels do not fit 'gpu=h100'"):
            pool.group("off").map("true", where="gpu=h100", plan=plan)
        reached = pool["h0,h1"]
        reached.connect()
        wait_until(lambda: all("gpu" in one.state for one in reached))
        text = re.escape("h[0-1]: it does not fit 'zone=x,gpu=h100'; off: its labels")
        with pytest.raises(ValueError, match=text):
            pool.map("true", where="zone=x,gpu=h100", plan=plan)
        with pytest.raises(ValueError, match="it has 0 GPUs, and a run takes 8"):
            reached.submit("true", gpus=8)
    assert not plan.exists()


@pytest.mark.usefixtures("impatient")
def test_a_sweep_that_no_host_fits_ends_and_says_so(quiet_ports, caplog):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        sweep = pool.map("true", where="zone=x")
        job = pool.submit("true", where="zone=x")
        text = re.escape(
            "no host takes runs (h[0-1]: it does not fit 'zone=x'); pool.r"
        )
        with pytest.raises(SweepPlanError, match=text):
            sweep.wait(timeout=20.0)
        assert f"sweep {sweep.id}: no host takes runs (h[0-1]: it does" in caplog.text
        assert sweep.problem.startswith("no host takes runs (h[0-1]: ")
        assert job.wait(timeout=20.0).status == "FAILED"
        assert job.reason.startswith("no host takes runs (h[0-1]: it does not fit")
        for one in pool:
            one.set_labels({"zone": "x"})
        pool.resume(sweep.plan).check(timeout=20.0)
        for one in pool:  # once there was a host, it is waited for
            one.set_labels({"zone": None})


@pytest.mark.usefixtures("impatient")
def test_a_sweep_says_once_whom_it_waits_for(quiet_ports, caplog):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        pool.add("localhost", 1, name="off")
        with pool.map("true {n}", n=[1], where="zone=x") as sweep:
            wait_until(lambda: "waiting to run 'true {n}': no host" in caplog.text)
            assert "no host takes runs (h[0-1]: it does not fit 'zone=x'; " in repr(
                sweep
            )
            assert "off: cannot connect to localhost:1" in sweep.problem
            pool["h0"].set_labels({"zone": "x"})
            sweep.check(timeout=20.0)
        assert caplog.text.count("waiting to run") == 1
        pool["h0"].set_labels({"zone": None})


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


def test_ctrl_c_names_the_host_that_a_submitted_run_has_got(quiet_ports, caplog):
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports[:1])
        job = pool.submit("sleep 60")
        waiting = job._messages.leaving_alone()
        waiting.__enter__()  # before the job has a host
        wait_until(lambda: job.status == "RUNNING")
        assert not waiting.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert f"job {job.id} goes on on h0: attach(" in caplog.text
        assert job.stop("SIGTERM").status == "STOPPED"


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


def planned(path: Path, command: str, *records: Any) -> Path:
    """Leave a plan as a client does that is killed."""
    head = Head("f00d", command, axes={"n": [1]})
    with PlanFile.make(path, head) as file:
        for record in records:
            file.note(record)
    return path


def test_a_run_that_was_given_and_perhaps_not_sent_is_begun_there_once(
    quiet_ports, tmp_path
):
    effects = tmp_path / "effects"
    given = Given(0, 0, "h1", time.time() - 5.0)
    path = planned(tmp_path / "plan", f"echo {{run}} >> {effects}", given)
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        for _ in range(2):  # the second client knows of no end, either
            kept = path.read_bytes()
            with pool.resume(path) as sweep:
                assert sweep.check(timeout=20.0)[0].host == "h1"
            path.write_bytes(kept)
    assert effects_in(effects) == {"0": 1}


def test_a_run_that_its_host_may_have_forgotten_is_lost_and_not_run_again(tmp_path):
    jobs = tmp_path / "state" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / ".forgotten").write_text(f"{time.time():<24}")
    effects = tmp_path / "effects"
    given = Given(0, 0, "h", time.time() - 1000.0)
    path = planned(tmp_path / "plan", f"echo {{run}} >> {effects}", given)
    with (
        serve(tmp_path / "state") as worker,
        mlepool.ClientPool() as pool,
    ):
        pool.add("localhost", worker.port, name="h")
        sweep = pool.resume(path).wait(timeout=20.0)
        assert sweep.counts == {"LOST": 1}
        assert "whether it has run can't be told" in sweep[0].reason
    assert not effects.exists()


def test_a_name_that_stands_for_another_worker_now_is_given_nothing(
    quiet_ports, tmp_path
):
    path = planned(tmp_path / "plan", "true", Host("h0", "another"))
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports[:1])
        with pool.resume(path) as sweep:
            wait_until(lambda: "not the worker that had this name" in sweep.problem)
            assert sweep.counts == {"WAITING": 1}


def test_a_full_disk_stops_a_sweep_until_there_is_room(quiet_ports, tmp_path, caplog):
    effects = tmp_path / "effects"
    with small_disk(tmp_path / "disk", "64k") as disk, mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        command = f"echo {{run}} >> {effects}; test -e {tmp_path}/go || sleep 0.05"
        with pool.map(command, axes={"n": range(40)}, plan=disk / "plan") as sweep:
            wait_until(lambda: effects_in(effects))
            filler = disk / "filler"
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                for _ in range(100):
                    file.write(bytes(4096))
            (tmp_path / "go").touch()
            wait_until(lambda: sweep.problem or sweep.done)
            is_full = bool(sweep.problem)
            filler.unlink()
            sweep.check(timeout=20.0)
    assert caplog.text.count("no more runs begin until it can") == is_full
    assert effects_in(effects) == {str(number): 1 for number in range(40)}


def test_a_host_that_spoils_what_others_do_well_gets_no_more_for_a_while(
    quiet_ports, tmp_path, monkeypatch
):
    monkeypatch.setenv("BROKEN", "yes")
    with serve(tmp_path / "bad") as bad, mlepool.ClientPool() as pool:
        add_all(pool, [quiet_ports[1], bad.port])
        pool.connect()
        with pool.map('test -z "$BROKEN"', axes={"n": range(100)}, retries=1) as sweep:
            sweep.check(timeout=20.0)
            hosts = {row[0]: row[-1] for row in sweep.hosts()}
        assert hosts["h0"] == ""
        assert "runs in a row have failed there at once" in hosts["h1"]
        spoiled = [row for row in sweep.rows() if row["attempts"] > 1]
        assert 3 <= len(spoiled) < 50
        with pool.map(
            "false", axes={"n": range(20)}
        ) as sweep:  # it is not the hosts' fault
            assert len(sweep.wait(timeout=20.0).failed) == 20


def test_a_sweep_goes_on_though_nobody_holds_its_handle(quiet_ports, tmp_path):
    effects = tmp_path / "effects"
    with mlepool.ClientPool() as pool:
        add_all(pool, quiet_ports)
        pool.map(f"echo {{run}} >> {effects}", axes={"n": range(20)})
        wait_until(lambda: gc.collect() is not None and len(effects_in(effects)) == 20)
