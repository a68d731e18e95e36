"""What tells that a tree changes: also folders that return, or can't be watched."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlepool.files.watcher import Watcher
from tests.conftest import wait_until
from tests.needs import lacking

WITH_FEW_WATCHES = """
import sys
from mlepool.files.watcher import Watcher
watcher = Watcher(sys.argv[1])
watcher.watch([b"a", b"b"])
print(watcher.trouble)
open(sys.argv[1] + "/b/new", "w").close()
print(any(watcher.wait() for _ in range(20)))
"""

UNTIL_QUIET = """
import sys
from mlepool.files.watcher import Watcher
watcher = Watcher(sys.argv[1])
def settle():
    while not watcher.watch([b"a", b"a/b"]):
        pass
settle()
print("ready", flush=True)
while not watcher.wait():
    pass
settle()
while watcher.wait():
    settle()
print("quiet", flush=True)
print(any(watcher.wait() for _ in range(40)))
"""
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    return folder


@pytest.fixture
def watcher(root):
    one = Watcher(str(root))
    yield one
    one.close()


def settle(watcher: Watcher, *folders: bytes) -> None:
    while not watcher.watch(folders):
        pass


def test_folders_have_to_be_looked_at_again_where_they_were_not_watched(watcher):
    assert not watcher.watch([b"a"])
    assert watcher.watch([b"a"])
    assert not watcher.watch([b"a", b"a/b"])
    assert watcher.watch([b"a/b", b"a"])
    assert watcher.trouble == ""


def test_a_change_is_told_once(watcher, root):
    settle(watcher, b"a", b"a/b")
    assert not watcher.wait()
    (root / "a" / "b" / "file").touch()
    assert watcher.wait()
    assert not watcher.wait()
    (root / "a" / "b" / "file").chmod(0o600)
    assert watcher.wait()
    (root / "a" / "b" / "file").unlink()
    assert watcher.wait()


def test_what_comes_before_it_is_waited_for_is_told(watcher, root):
    settle(watcher, b"a")
    (root / "file").touch()
    (root / "a" / "file").touch()
    assert watcher.watch([b"a"])
    assert watcher.wait()


def test_reading_is_no_change(watcher, root):
    (root / "file").write_text("x")
    settle(watcher, b"a")
    (root / "file").read_text()
    list(root.iterdir())
    assert not watcher.wait()


def test_links_are_not_followed_and_other_folders_cost_nothing(watcher, root, tmp_path):
    (tmp_path / "else").mkdir()
    (root / "link").symlink_to(tmp_path / "else")
    settle(watcher, b"a")
    (tmp_path / "else" / "file").touch()
    (root / "a" / "b" / "file").touch()
    assert not watcher.wait()


@pytest.mark.parametrize("way", ["made again", "away and back"])
def test_a_folder_that_is_another_by_now_is_watched_anew(watcher, root, way):
    settle(watcher, b"a", b"a/b")
    if way == "made again":
        shutil.rmtree(root / "a" / "b")
        (root / "a" / "b").mkdir()
    else:
        (root / "a").rename(root / "c")
        (root / "c").rename(root / "a")
    assert watcher.wait()
    assert not watcher.watch([b"a", b"a/b"])
    assert watcher.watch([b"a", b"a/b"])
    (root / "a" / "b" / "file").touch()
    assert watcher.wait()


def test_a_folder_is_watched_anew_though_the_system_has_dropped_what_tells_of_it(root):
    limit = int(QUEUE.read_text()) if QUEUE.exists() else 0
    if not 0 < limit < 100_000:
        lacking("a queue of the kernel's that can be filled soon")
    words = [sys.executable, "-c", UNTIL_QUIET, str(root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        told = process.stdout
        assert told is not None
        assert told.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        for number in range(limit // 2):
            (root / str(number)).write_text("x")
        shutil.rmtree(root / "a" / "b")
        (root / "a" / "b").mkdir()
        process.send_signal(signal.SIGCONT)
        assert told.readline() == "quiet\n"
        (root / "a" / "b" / "file").touch()
        assert told.readline() == "True\n"


def test_a_root_that_is_made_again_is_found(watcher, root):
    settle(watcher, b"a", b"a/b")
    shutil.rmtree(root)
    assert watcher.wait()
    watcher.close()
    assert not watcher.wait()
    root.mkdir()
    assert watcher.wait()
    settle(watcher)
    (root / "file").touch()
    assert watcher.wait()


def test_a_root_that_is_a_link_to_another_folder_is_found(tmp_path, root):
    (tmp_path / "current").symlink_to("root")
    (tmp_path / "next").mkdir()
    watcher = Watcher(str(tmp_path / "current"))
    settle(watcher, b"a", b"a/b")
    (tmp_path / "new").symlink_to("next")
    (tmp_path / "new").rename(tmp_path / "current")
    assert watcher.wait()
    assert not watcher.watch([])
    settle(watcher)
    (tmp_path / "next" / "file").touch()
    assert watcher.wait()
    watcher.close()


def test_a_folder_that_is_gone_before_it_is_watched_is_a_reason_to_look(watcher):
    assert not watcher.watch([b"gone"])
    assert watcher.trouble == ""
    assert watcher.wait()


@pytest.mark.parametrize("name", [b"not\xff", b"/".join([b"x" * 250] * 20)])
def test_what_can_not_be_watched_is_looked_at_again_and_again(watcher, root, name):
    settle(watcher, b"a", name)
    assert "folder" in watcher.trouble
    wait_until(watcher.wait)
    (root / "a" / "file").touch()  # the others are watched
    assert watcher.wait()
    settle(watcher, b"a")
    assert watcher.trouble == ""


def test_where_the_system_watches_no_more_it_says_what_to_do(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    limit = "echo 2 > /proc/sys/user/max_inotify_watches"
    command = ["unshare", "-Ur", "sh", "-c", f'{limit} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("limits can't be set here")
    command += [sys.executable, "-c", WITH_FEW_WATCHES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told, found = done.stdout.splitlines()
    assert "fs.inotify.max_user_watches" in told
    assert found == "True"


def test_the_first_change_is_told_while_others_come(watcher, root):
    settle(watcher, b"a")
    writer = subprocess.Popen(
        ["sh", "-c", 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); : > "$0/$i"; done']
        + [os.fspath(root)]
    )
    assert any(watcher.wait() for _ in range(20))
    writer.kill()
    writer.wait()
