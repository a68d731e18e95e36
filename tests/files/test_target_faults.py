"""The written end where things fail: full disks, kills, other file systems."""

import asyncio
import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from mlepool.files.base import TargetOptions
from mlepool.files.target import LocalTarget
from mlepool.files.writer import KEEP_PART
from tests.files.trees import MTIME, Sender, listing, make_tree, sync
from tests.needs import small_disk

LARGE = random.Random(1).randbytes(4_000_000)
DISK = 8 * 1024 * 1024  # bytes


# -- full disks


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", str(DISK)) as folder:
        yield folder


def test_what_can_not_fit_is_refused_before_the_first_byte(disk, tmp_path):
    make_tree(disk / "dst", {"a": b"old"})
    before = listing(disk / "dst")
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    fits = free - DISK // KEEP_PART - 4096

    async def run():
        target = LocalTarget(disk / "dst", TargetOptions(), state=tmp_path / "state")
        await target.scan()
        try:
            with pytest.raises(OSError, match="bytes are needed") as caught:
                await target.reserve(fits + 4096, 1)
            assert caught.value.errno == errno.ENOSPC
            assert f"{free - 4096:,}" in str(caught.value) or "free" in str(
                caught.value
            )
            with pytest.raises(OSError, match="too many"):
                await target.reserve(0, 10_000_000)
            await target.reserve(fits - 2 * 4096, 1)
            await target.reserve(0, 0)
        finally:
            await target.close()

    asyncio.run(run())
    assert listing(disk / "dst") == before


@pytest.mark.parametrize("is_known", [False, True])
def test_a_disk_that_gets_full_leaves_the_tree_as_it_was(disk, tmp_path, is_known):
    there = {"old": b"old", "first": b"old"}
    if is_known:  # what is copied on the spot may not fit either
        there["big"] = LARGE
    make_tree(disk / "dst", there)
    source = make_tree(tmp_path / "src", {"first": b"new first", "new": b"new"})
    make_tree(source, {"big": LARGE + LARGE})
    before = listing(disk)

    async def run():
        target = LocalTarget(disk / "dst", TargetOptions(), state=tmp_path / "state")
        sender = Sender(source, target)
        try:
            with pytest.raises(OSError, match="No space") as caught:
                await send_and_fill(sender, disk)
            assert caught.value.errno == errno.ENOSPC
        finally:
            await target.close()

    asyncio.run(run())
    os.unlink(disk / "others")
    after = listing(disk)
    del after[b"."], before[b"."]
    assert after == before


async def send_and_fill(sender: Sender, disk: Path) -> None:
    """Send files, while others take what room there is."""
    with contextlib.suppress(OSError):
        await sender.begin(delete=True)
    await sender.target.expect(0, sender.plan.files)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "others").write_bytes(bytes(max(0, free - 2_000_000)))
    await sender.send()


# -- other file systems


def test_a_tree_on_another_file_system_is_staged_beside_it(disk, tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    make_tree(disk / "in/dst", {"gone": b"2"})
    _, report = sync(source, disk / "in/dst", tmp_path / "state", delete=True)
    assert (report.written, report.deleted, report.problems) == (1, 1, [])
    name = f".mlepool-{os.geteuid()}"
    assert sorted(os.listdir(disk / "in")) == sorted([name, "dst"])
    assert os.stat(disk / "in" / name).st_mode & 0o777 == 0o700
    [kept] = (disk / "in" / name).glob("trash/*/tree/gone")
    assert kept.read_bytes() == b"2"


def test_nothing_is_left_beside_a_tree_without_trash(disk, tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    for _ in range(2):
        sync(source, disk / "dst", tmp_path / "state")
        assert os.listdir(disk) == ["dst"]


@pytest.mark.parametrize("why", ["a mount", "all that is allowed"])
def test_else_it_is_staged_in_a_hidden_folder_that_no_sync_touches(disk, tmp_path, why):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    root = make_tree(disk if why == "a mount" else disk / "x", {"gone": b""})
    for number in range(3):
        make_tree(source, {"a": bytes(number)})
        allowed = [] if why == "a mount" else [root]
        sync(source, root, tmp_path / "state", delete=True, allowed=allowed)
    name = f".mlepool-{os.geteuid()}"
    assert sorted(os.listdir(root)) == sorted([name, "a"])
    assert list((root / name).glob("trash/*/tree/gone"))


def test_a_hidden_folder_that_is_somebody_elses_is_not_used(disk, tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    name = f".mlepool-{os.geteuid()}"
    os.symlink(make_tree(tmp_path / "trap", {}), disk / name)
    make_tree(disk / "dst", {f"{name}/": b""})
    os.chmod(disk / "dst" / name, 0o777)
    with pytest.raises(PermissionError, match="no place"):
        sync(source, disk / "dst", tmp_path / "state")
    assert os.listdir(tmp_path / "trap") == []


def test_a_tree_with_another_file_system_in_it_is_written(tmp_path):
    source = make_tree(tmp_path / "src", {"in/a": LARGE, "in/sub/b": b"new", "c": b""})
    os.symlink("a", source / "in/link")
    with small_disk(tmp_path / "dst/in", str(DISK)):
        make_tree(tmp_path / "dst", {"in/a": b"old", "in/gone/deep/x": b"bye"})
        os.symlink("x", tmp_path / "dst/in/gone/deep/link")
        _, report = sync(source, tmp_path / "dst", tmp_path / "state", delete=True)
        assert report.problems == []
        found, expected = listing(tmp_path / "dst"), listing(source)
        del found[b"."], expected[b"."]
        assert found == expected
    [kept] = (tmp_path / "state").glob("trash/*/tree/in/gone/deep")
    assert (kept / "x").read_bytes() == b"bye"
    assert os.readlink(kept / "link") == "x"


def test_a_file_system_that_is_read_only_is_said_to_be(disk, tmp_path):
    make_tree(disk / "dst", {})
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    source = make_tree(tmp_path / "src", {"a": b"1"})
    for root in ("dst", "new"):
        with pytest.raises(OSError, match="Read-only") as caught:
            sync(source, disk / root, tmp_path / "state")
        assert caught.value.errno == errno.EROFS


def test_sessions_that_come_and_go_in_one_folder_do_not_meet(disk, tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})

    async def one(number: int) -> None:
        root = disk / f"dst{number}"
        for _ in range(20):
            target = LocalTarget(root, TargetOptions(), state=tmp_path / "state")
            sender = Sender(source, target)
            await sender.begin()
            await sender.send()
            await sender.end()
            await target.close()

    async def run() -> None:
        await asyncio.gather(*(one(number) for number in range(4)))

    asyncio.run(run())
    assert sorted(os.listdir(disk)) == [f"dst{number}" for number in range(4)]


# -- roots that change


@pytest.mark.parametrize("becomes", ["another folder", "nothing", "a link", "a file"])
def test_a_root_that_is_another_at_the_commit_is_not_written(tmp_path, becomes):
    source = make_tree(tmp_path / "src", {"a": b"1", "b/c": b"2"})
    root = make_tree(tmp_path / "home/dst", {"gone": b""})
    other = make_tree(tmp_path / "other", {"gone": b""})
    before = listing(other)

    async def run() -> None:
        target = LocalTarget(root, TargetOptions(), state=tmp_path / "state")
        sender = Sender(source, target)
        await sender.begin(delete=True)
        await sender.send()
        os.rename(root, tmp_path / "aside")
        if becomes == "another folder":
            root.mkdir()
        elif becomes == "a link":
            root.symlink_to(other)
        elif becomes == "a file":
            root.touch()
        with pytest.raises(OSError, match="dst"):
            await sender.end()
        await target.close()

    asyncio.run(run())
    assert listing(other) == before
    assert os.listdir(tmp_path / "aside") == ["gone"]


# -- kills

FORKING = """
import asyncio, os, sys
from pathlib import Path
from mlepool.files.base import TargetOptions
from mlepool.files.target import LocalTarget
from tests.files.trees import Sender

async def write(source, root, state):
    target = LocalTarget(root, TargetOptions(), state=state)
    sender = Sender(source, target)
    await sender.begin(delete=True)
    await sender.send()
    await sender.tell()
    print("sent", flush=True)
    if sys.argv[4] == "stay":
        await asyncio.sleep(60)
    await target.commit()
    await asyncio.sleep(60)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        asyncio.run(write(*map(Path, sys.argv[1:4])))
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


class Killed:
    """A process that writes a tree, forked again each time that it was killed."""

    def __init__(self, source: Path, root: Path, state: Path, *, then: str) -> None:
        words = [sys.executable, "-c", FORKING, str(source), str(root), str(state)]
        self._parent = subprocess.Popen(
            [*words, then],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def start(self) -> None:
        """Have it written, up to the commit."""
        assert self._parent.stdin is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        self._pid = int(self._line())
        assert self._line() == "sent"

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        assert self._line() == "dead"

    def close(self) -> None:
        self._parent.communicate()

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().strip()


def test_what_a_session_that_died_had_received_is_not_sent_again(tmp_path):
    source = make_tree(tmp_path / "src", {"big": LARGE, "a": b"1", "b": b"22"})
    writer = Killed(source, tmp_path / "dst", tmp_path / "state", then="stay")
    writer.start()
    writer.kill()
    writer.close()
    assert not (tmp_path / "dst").exists()
    [left] = os.listdir(tmp_path / "state/stage")
    damage(tmp_path / "state/stage" / left)
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state")
    assert 0 < sender.sent < 1_000_000, "but for what was damaged on the way"
    assert report.reused == len(LARGE) + 3 - sender.sent
    assert (tmp_path / "dst/big").read_bytes() == LARGE
    assert os.listdir(tmp_path / "state/stage") == []


def damage(folder: Path) -> None:
    """Change a byte in the middle of what is staged."""
    big = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    with open(big, "r+b") as file:
        file.seek(2_000_000)
        file.write(b"!!")


def test_each_file_is_the_old_or_the_new_one_whenever_it_is_killed(tmp_path):
    names = [f"{one % 7}/{one}" for one in range(80)]
    old = {name: b"old " + name.encode() for name in names}
    new = {name: b"newer " + name.encode() for name in names[:60]}
    source = make_tree(tmp_path / "src", new)
    root = make_tree(tmp_path / "dst", old)
    writer = Killed(source, root, tmp_path / "state", then="commit")
    mixed = 0
    for number in range(4):
        make_tree(root, old)
        writer.start()
        wait_for_change(root / names[13 * number], old[names[14 * number]])
        writer.kill()
        mixed += check_each(root, old, new)
    writer.close()
    assert mixed, "no kill came in the midst"
    _, report = sync(source, root, tmp_path / "state", delete=True)
    assert report.problems == []
    found, expected = listing(root), listing(source)
    del found[b"."], expected[b"."]
    assert found == expected
    assert os.listdir(tmp_path / "state/stage") == []


def wait_for_change(path: Path, content: bytes) -> None:
    """Wait until a file is another: then the commit is in the midst."""
    while path.read_bytes() == content:
        os.sched_yield()


def check_each(root: Path, old: dict[str, bytes], new: dict[str, bytes]) -> bool:
    """Check that each file is whole; tell if there are old and new ones."""
    kinds = set()
    for name, content in old.items():
        path = root / name
        if not path.exists():
            assert name not in new, "only what is not in the source is deleted"
            kinds.add("deleted")
            continue
        found = path.read_bytes()
        assert found in (content, new.get(name))
        kinds.add("old" if found == content and name in new else "new")
        if found == new.get(name):
            assert path.stat().st_mtime_ns == MTIME
    return {"old", "new"} <= kinds


def test_what_is_left_to_the_next_session_is_not_sent_again(tmp_path):
    source = make_tree(tmp_path / "src", {"big": LARGE})
    state = tmp_path / "state"

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=state)
        sender = Sender(source, target)
        await sender.begin()
        await sender.send()
        for _ in range(2):
            await target.leave()

    asyncio.run(run())
    assert not (tmp_path / "dst").exists()
    sender, report = sync(source, tmp_path / "dst", state)
    assert (sender.sent, report.reused) == (0, len(LARGE))
    assert os.listdir(state / "stage") == []


def test_what_is_left_makes_way_where_there_is_no_room_for_both(disk, tmp_path):
    tree = blake3(os.fsencode(disk / "dst")).hexdigest()[:16]
    make_tree(disk / "state/stage", {f"{tree}-dead/0": LARGE + bytes(2_000_000)})
    source = make_tree(tmp_path / "src", {"big": LARGE[::-1]})
    _, report = sync(source, disk / "dst", disk / "state")
    assert (report.written, report.problems) == (1, [])
    assert os.listdir(disk / "state/stage") == []


def test_what_is_left_of_other_trees_stays_a_day_and_goes(tmp_path):
    stage = make_tree(tmp_path / "state/stage", {"other-1/0": b"x", "other-2/0": b"x"})
    os.utime(stage / "other-2", (1, 1))
    sync(make_tree(tmp_path / "src", {"a": b""}), tmp_path / "dst", tmp_path / "state")
    assert os.listdir(stage) == ["other-1"]
