"""One sync at a time into a tree: within a process, and across processes."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlepool.files.base import TargetOptions
from mlepool.files.locks import TreeLock
from mlepool.files.target import LocalTarget
from tests.files.trees import make_tree

HOLDING = """
import sys, time
from pathlib import Path
from mlepool.files.locks import TreeLock
lock = TreeLock(Path(sys.argv[1]), sys.argv[2].encode(), "the other one")
print(lock.take(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("other", [b"/data/a", b"/data", b"/", b"/data/a/b/c"])
def test_a_tree_and_what_is_in_it_is_taken_by_one(tmp_path, other):
    first = TreeLock(tmp_path / "locks", b"/data/a", "ann")
    second = TreeLock(tmp_path / "locks", other, "bob")
    assert first.take() is None
    assert second.take() == "ann"
    first.release()
    first.release()
    assert second.take() is None
    assert first.take() == "bob"
    second.release()


@pytest.mark.parametrize("other", [b"/data/ab", b"/data/b", b"/dat"])
def test_other_trees_are_free(tmp_path, other):
    locks = [TreeLock(tmp_path, root, "") for root in (b"/data/a", other)]
    assert [one.take() for one in locks] == [None, None]
    for one in locks:
        one.release()
    assert os.listdir(tmp_path) == ["guard"]


def test_another_process_holds_a_tree_until_it_is_dead(tmp_path):
    words = [sys.executable, "-c", HOLDING, str(tmp_path), "/data/a"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    lock = TreeLock(tmp_path, b"/data", "me")
    assert lock.take() == "the other one"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert lock.take() is None
    lock.release()


def test_a_note_that_is_damaged_holds_nobody_up(tmp_path):
    (tmp_path / "dead.lock").write_bytes(b"nonsense")
    first = TreeLock(tmp_path, b"/data", "")
    assert first.take() is None
    [note] = tmp_path.glob("*.lock")
    note.write_bytes(b"nonsense")
    second = TreeLock(tmp_path, b"/data", "")
    assert second.take() is None
    first.release()
    second.release()


def test_who_waits_is_told_for_whom_and_comes_next(tmp_path):
    make_tree(tmp_path / "dst", {"sub/": b""})
    told: list[str] = []

    async def run() -> None:
        both_wait = asyncio.Event()

        def waiting_for(owner: str) -> None:
            told.append(owner)
            if len(told) == 2:
                both_wait.set()

        def target(path: Path, owner: str) -> LocalTarget:
            options = TargetOptions(owner=owner)
            state = tmp_path / "state"
            return LocalTarget(path, options, state=state, waiting=waiting_for)

        first, second = target(tmp_path / "dst", "ann"), target(tmp_path / "dst", "bob")
        third = target(tmp_path / "dst/sub", "eve")
        await first.scan()
        waiting = asyncio.create_task(second.scan())
        gone = asyncio.create_task(third.scan())
        await both_wait.wait()
        assert told == ["ann", "ann"]
        assert not waiting.done()
        gone.cancel()  # who waits may give up
        await asyncio.wait([gone])
        await third.close()
        await first.close()
        assert (await waiting).exists
        await second.close()
        assert told == ["ann", "ann"]

    asyncio.run(run())
