"""Kills exactly the worker or the supervisor of a folder, and knows who is dead."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys

import pytest

import mlepool
from mlepool.config import ListenAddress, WorkerConfig
from mlepool.testing.kill import (
    alive,
    kill_supervisor,
    kill_worker,
    supervisor_pid,
    worker_pid,
)
from mlepool.worker.daemon import Worker

pytestmark = pytest.mark.real


def test_a_killed_worker_is_dead_and_its_supervisor_and_job_are_not(start_worker):
    one, other = start_worker("one"), start_worker("other")
    with mlepool.ClientPool() as pool, pool.add("localhost", one.port) as conn:
        job = conn.run("echo $$; exec sleep 60", complete=False, detach=True)
        job_pid = int(job.next())
        supervisor = supervisor_pid(one.state_dir)
        assert worker_pid(one.state_dir) == one.process.pid
        assert kill_worker(one.state_dir) == one.process.pid
        assert not alive(one.process.pid)  # it is a zombie: nobody has waited for it
        assert one.process.wait() == -signal.SIGKILL
        with pytest.raises(LookupError, match="no worker runs with the state folder"):
            kill_worker(one.state_dir)
        assert (
            supervisor_pid(one.state_dir)
            == supervisor
            != kill_supervisor(other.state_dir)
        )
        assert alive(supervisor)
        assert alive(job_pid)
    assert kill_supervisor(one.state_dir) == supervisor
    assert not alive(supervisor)
    with pytest.raises(LookupError, match="no supervisor runs with the state folder"):
        supervisor_pid(one.state_dir)
    os.kill(job_pid, signal.SIGKILL)


def test_a_folder_may_be_named_by_text_or_not_exist(tmp_path):
    for find in (worker_pid, supervisor_pid, kill_worker, kill_supervisor):
        with pytest.raises(LookupError, match="none"):
            find(str(tmp_path / "none"))


def test_who_only_has_the_lock_file_open_is_not_meant(tmp_path):
    path = tmp_path / "worker.lock"
    with open(path, "w") as mine:
        with pytest.raises(LookupError):
            worker_pid(tmp_path)
        fcntl.flock(mine, fcntl.LOCK_EX)
        assert worker_pid(tmp_path) == os.getpid()
        # A child that got the lock's descriptor is not who took the lock.
        with subprocess.Popen(["sleep", "60"], pass_fds=[mine.fileno()]) as child:
            assert worker_pid(tmp_path) == os.getpid()
            child.kill()


def test_a_worker_in_this_very_process_is_not_killed(tmp_path):
    async def main() -> None:
        here = ListenAddress("127.0.0.1", 0)
        async with Worker(WorkerConfig(tmp_path, here, "me", tmp_path)):
            with pytest.raises(ValueError, match="the worker runs in this process"):
                kill_worker(tmp_path)

    asyncio.run(main())


def test_a_number_is_alive_until_its_process_ends(tmp_path):
    assert alive(os.getpid())
    assert not alive(2**22 + 1)  # above what Linux gives
    name = tmp_path / "odd) Z (name"
    name.symlink_to(sys.executable)
    with subprocess.Popen([str(name), "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert alive(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(child.pid)


def test_elsewhere_than_on_linux_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(NotImplementedError, match="on Linux only"):
        alive(1)
    with pytest.raises(NotImplementedError, match="on Linux only"):
        kill_worker(tmp_path)
