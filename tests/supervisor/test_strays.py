"""Jobs of supervisors that were killed; forged journals that name strangers."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.journal import Journal
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.supervisor.ledger import LEDGER_FILE, Ledger
from mlepool.supervisor.messages import (
    JOBS_FOLDER,
    SOCKET_FILE,
    Finish,
    Spawned,
    Stop,
    Stopped,
)
from mlepool.supervisor.processes import boot_id, identify
from mlepool.supervisor.strays import all_jobs, find_strays, recall_stray
from mlepool.testing.kill import alive
from mlepool.wire.messages import Outcome
from mlepool.wire.records import STDOUT, RecordParser
from tests.conftest import wait_until
from tests.supervisor.conftest import RunningSupervisor

JOB = "job"  # as another test's may be, that runs beside this one


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no job of ours; it leads a session, as a job does."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def successor(supervisor) -> Iterator[type[RunningSupervisor]]:
    """Start the next supervisor, after the first one was killed."""
    started: list[RunningSupervisor] = []

    class Successor(RunningSupervisor):
        def __init__(self, before: str = "") -> None:
            supervisor.process.kill()
            supervisor.process.wait()
            super().__init__(supervisor.folder, before)
            started.append(self)

    yield Successor
    for one in started:
        one.end()


def forge(folder: Path, job_id: str, process: JobProcess, *, boot: str) -> None:
    """Write the journal of a job whose supervisor was killed."""
    folder.mkdir(exist_ok=True)
    writer = JournalWriter(folder, JobHead(job_id, "sleep 60", "/", 1.0, boot))
    writer.begin(process)
    writer.append(STDOUT, b"hi\n", time=1.0)
    os.close(writer.release())
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.keep([job_id])


def birth(pid: int) -> int:
    found = identify(pid)
    assert found is not None
    return found.start_ticks


def outcome_of(folder: Path, job_id: str) -> Outcome:
    journal = Journal(folder, job_id)
    outcome = journal.outcome()
    journal.close()
    assert outcome is not None
    return outcome


def test_a_job_that_still_runs_is_lost_by_name_and_can_be_stopped(
    line, supervisor, successor
):
    line.spawn(JOB, "echo hi; sleep 61 & exec sleep 62", is_awaited=True)
    pid = line.wait_for(Spawned).pid
    wait_until(lambda: supervisor.output(JOB)["stdout"] == b"hi\n")
    second = successor()
    new = second.connect()
    (info,) = new.greet().jobs
    assert (info.id, info.status, info.pid) == (JOB, "LOST", pid)
    assert f"still runs as pid {pid}" in info.outcome.reason
    assert second.output(JOB)["stdout"] == b"hi\n"
    assert alive(pid)
    new.send(Stop(JOB, "SIGTERM", 5.0))
    report = new.wait_for(Stopped).report
    assert (report.status, report.complete) == ("LOST", True)
    assert {"sleep 61", "sleep 62"} <= {one.command for one in report.signalled}
    assert not alive(pid)


def stray_in(folder: Path) -> set[int]:
    """Give the pids of a job whose supervisor was killed."""
    supervisor = RunningSupervisor(folder)
    line = supervisor.connect()
    line.greet()
    line.spawn(JOB, "setsid sleep 61 & echo $!; exec sleep 62", is_awaited=True)
    leader = line.wait_for(Spawned).pid
    wait_until(lambda: supervisor.output(JOB)["stdout"].endswith(b"\n"))
    daemon = int(supervisor.output(JOB)["stdout"])
    supervisor.process.kill()
    supervisor.process.wait()
    supervisor.end()  # its job goes on
    return {leader, daemon}


def stop_strays(folder: Path) -> set[int]:
    """Stop the job as the next supervisor does; give the pids that it signalled."""
    supervisor = RunningSupervisor(folder)
    try:
        line = supervisor.connect()
        line.greet()
        line.send(Stop(JOB, "SIGTERM", 5.0))
        report = line.wait_for(Stopped).report
        assert report.complete
        return {one.pid for one in report.signalled}
    finally:
        supervisor.end()


def test_another_workers_job_of_the_same_id_is_left_alone(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    ours, theirs = stray_in(one), stray_in(other)
    renamed = tmp_path / "renamed"
    renamed.symlink_to(one)  # the folder is the same by any name
    assert stop_strays(renamed) == ours
    assert [alive(pid) for pid in theirs] == [True, True]
    assert stop_strays(other) == theirs


def test_it_is_found_after_a_second_death_and_after_an_orderly_end(
    line, supervisor, successor
):
    line.spawn(JOB, "exec sleep 62", is_awaited=True)
    pid = line.wait_for(Spawned).pid
    second = successor()
    second.process.kill()
    second.process.wait()
    third = RunningSupervisor(supervisor.folder)
    new = third.connect()
    assert [one.pid for one in new.greet().jobs] == [pid]
    new.send(Finish())
    new.close()
    third.process.wait(10)
    third.end()
    assert not (supervisor.folder / SOCKET_FILE).exists()
    fourth = RunningSupervisor(supervisor.folder)
    try:
        new = fourth.connect()
        assert new.greet().jobs == ()
        new.send(Stop(JOB, "SIGTERM", 5.0))
        report = new.wait_for(Stopped).report
        assert [one.pid for one in report.signalled] == [pid]
        assert not alive(pid)
    finally:
        fourth.end()


def test_a_job_that_has_ended_keeps_its_outcome(line, supervisor, successor):
    line.spawn(JOB, "exit 3")
    told = line.outcome(JOB)
    second = successor()
    assert second.connect().greet().jobs == ()
    assert second.outcome(JOB) == told
    assert told.exit_code == 3


# Says in the log which journals are opened.
WATCHED = """
import os
real = os.open
def watched(path, *rest, **named):
    if str(path).endswith(".journal"):
        os.write(2, b"opened %s\\n" % os.path.basename(path).encode())
    return real(path, *rest, **named)
os.open = watched
"""


def opened(log: str) -> list[str]:
    return re.findall(r"opened (.*)\.journal", log)


def test_few_journals_of_the_past_are_opened_to_find_the_open_jobs(
    line, supervisor, successor
):
    for number in range(30):
        line.spawn(f"job-{number}", "exit 3")
        line.outcome(f"job-{number}")
    line.spawn("going", "exec sleep 62", is_awaited=True)
    line.wait_for(Spawned, "going")
    line.spawn("refused", "exit 3", cwd="/nowhere")
    line.outcome("refused")
    second = successor(WATCHED)
    (info,) = second.connect().greet().jobs
    assert info.id == "going"
    # The latest that has left is in the ledger still: its slot waits for the next job.
    assert set(opened(second.log)) == {"going", "refused"}


def test_without_a_ledger_each_journal_is_read(line, supervisor, successor):
    line.spawn(JOB, "exit 3")
    line.outcome(JOB)
    line.spawn("going", "exec sleep 62", is_awaited=True)
    line.wait_for(Spawned, "going")
    (supervisor.folder / JOBS_FOLDER / LEDGER_FILE).unlink()
    second = successor(WATCHED)
    (info,) = second.connect().greet().jobs
    assert info.id == "going"
    assert set(opened(second.log)) == {JOB, "going"}


def test_a_job_that_died_with_its_supervisor_is_lost(line, supervisor, successor):
    line.spawn(JOB, "exec sleep 62", is_awaited=True)
    pid = line.wait_for(Spawned).pid
    os.kill(supervisor.process.pid, signal.SIGSTOP)  # it will not see the end
    os.kill(pid, signal.SIGKILL)
    second = successor()
    assert second.connect().greet().jobs == ()
    outcome = second.outcome(JOB)
    assert outcome is not None
    assert (outcome.status, outcome.exit_code) == ("LOST", None)
    assert "supervisor was killed" in outcome.reason


@pytest.mark.parametrize("lost", [False, True], ids=["no end", "lost before"])
@pytest.mark.parametrize("is_this_boot", [True, False], ids=["this boot", "another"])
def test_a_stranger_with_a_recycled_pid_is_never_signalled(
    supervisor, stranger, *, lost, is_this_boot
):
    jobs = supervisor.folder / JOBS_FOLDER
    born = birth(stranger.pid) - 1000 * is_this_boot
    boot = boot_id() if is_this_boot else "0123"
    forge(jobs, "forged", JobProcess(stranger.pid, (born, born), 1.0), boot=boot)
    if lost:
        assert find_strays(jobs, all_jobs(jobs)) == []
        assert outcome_of(jobs, "forged").status == "LOST"
    assert recall_stray(jobs, "forged") is None
    supervisor.process.kill()
    supervisor.process.wait()
    second = RunningSupervisor(supervisor.folder)
    try:
        line = second.connect()
        assert line.greet().jobs == ()
        line.send(Stop("forged", "SIGKILL", 0.0))
        report = line.wait_for(Stopped).report
        assert report.signalled == ()
        assert stranger.poll() is None
        assert outcome_of(jobs, "forged").status == "LOST"
    finally:
        second.end()


def test_the_right_birth_is_proof(tmp_path, stranger):
    born = birth(stranger.pid)
    process = JobProcess(stranger.pid, (born - 1, born), 1.0)
    forge(tmp_path, "born", process, boot=boot_id())  # no job of another test's
    (stray,) = find_strays(tmp_path, all_jobs(tmp_path))
    assert [one.pid for one in stray.living(list)] == [stranger.pid]
    again = recall_stray(tmp_path, "born")
    assert again is not None
    assert again.leader() == stranger.pid


def test_a_command_inside_the_worker_is_the_workers_own(tmp_path):
    head = JobHead(JOB, "work", "/tmp", 1.0, streams=True)
    writer = JournalWriter(tmp_path, head)
    writer.begin(JobProcess(0, (0, 0), 1.0))
    assert find_strays(tmp_path, [JOB]) == []
    writer.append(STDOUT, b"it goes on", time=2.0)
    writer.finish(writer.complete(Outcome("SUCCEEDED")))
    with contextlib.closing(Journal(tmp_path, JOB)) as journal:
        outcome = journal.outcome()
    assert outcome is not None
    assert outcome.status == "SUCCEEDED"


def test_what_a_job_prints_without_its_supervisor_ends_it_by_sigpipe(
    line, supervisor, tmp_path
):
    """As documented: its pipes have no reader any more."""
    deaf, heedless = tmp_path / "deaf", tmp_path / "heedless"
    go = tmp_path / "go"
    wait = f"while ! test -e {go}; do sleep 0.02; done"
    line.spawn("stray1", f"{wait}; echo x; touch {heedless}", is_awaited=True)
    line.spawn("stray2", f"trap '' PIPE; {wait}; echo x; touch {deaf}", is_awaited=True)
    pids = [line.wait_for(Spawned, one).pid for one in ("stray1", "stray2")]
    supervisor.process.kill()
    supervisor.process.wait()
    assert all(alive(pid) for pid in pids)
    go.touch()
    wait_until(lambda: not any(alive(pid) for pid in pids))
    assert deaf.exists()
    assert not heedless.exists()


def test_a_torn_tail_is_cut_off_at_every_length(tmp_path):
    process = JobProcess(0, (0, 0), 1.0)
    forge(tmp_path, "whole", process, boot=boot_id())
    whole = (tmp_path / "whole.journal").read_bytes()
    record = 24 + 3
    for size in range(len(whole) - record, len(whole) + 1):
        (tmp_path / "torn.journal").write_bytes(whole[:size])
        began = time.time()
        assert find_strays(tmp_path, all_jobs(tmp_path)) == []
        outcome = outcome_of(tmp_path, "torn")
        assert outcome.status == "LOST"
        assert outcome.ended >= began
        is_whole = size == len(whole)
        assert outcome.end == (record if is_whole else 0)
        journal = Journal(tmp_path, "torn")
        records = RecordParser().feed(journal.read(0, outcome.end))
        journal.close()
        assert [one.data for one in records] == [b"hi\n"] * is_whole
        (tmp_path / "torn.journal").unlink()
