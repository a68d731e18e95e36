"""Control groups: real ones, made and entered and left as the supervisor does."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.supervisor.cgroups import Cgroups
from tests.needs import lacking

pytestmark = pytest.mark.real

THREADS = """
import threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("on", flush=True)
time.sleep(60)
"""


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = Cgroups.find()
    if found is None:
        lacking("control groups, version 2, that may be made")
    yield found
    found.close()


def own_group() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def test_a_process_of_many_threads_is_in_its_group_once(groups):
    slot, home = groups.take(), own_group()
    with slot:
        child = subprocess.Popen(
            [sys.executable, "-c", THREADS], stdout=subprocess.PIPE
        )
    assert own_group() == home
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"on\n"
        assert slot.pids() == [child.pid]
        assert not slot.is_empty()
        theirs = Path(f"/proc/{child.pid}/cgroup").read_text()
        assert f"0::{slot.name}\n" in theirs
        child.kill()
    assert slot.pids() == []
    assert slot.is_empty()
    groups.give_back(slot)
    assert groups.take() is slot
    groups.give_back(slot)


def test_a_child_of_a_child_is_in_the_group_too(groups):
    slot = groups.take()
    with slot:
        child = subprocess.Popen(
            ["sh", "-c", "setsid sleep 60 & echo $!; wait"], stdout=subprocess.PIPE
        )
    with child:
        assert child.stdout is not None
        inner = int(child.stdout.readline())
        assert slot.pids() == sorted([child.pid, inner])
        os.kill(inner, 9)
    groups.give_back(slot)


def test_nothing_is_left_at_the_end():
    before = own_group()
    groups = Cgroups.find()
    if groups is None:
        lacking("control groups, version 2, that may be made")
    within = own_group()
    assert within != before
    groups.close()
    assert own_group() == before
    assert not list(Path("/sys/fs/cgroup").glob(f"**/mlepool-{os.getpid()}"))
