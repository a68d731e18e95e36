"""mlepool sync: what it prints, what it leaves, and its exit status."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from mlepool.testing.proxy import FaultProxy
from tests.cli.shell import LIMIT, MLEPOOL, interrupt, mlepool, running
from tests.conftest import wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.txt").write_text("one")
    (folder / "deep" / "two.txt").write_text("two" * 1000)
    return folder


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_sync_says_in_one_line_what_it_has_done(here, host, source, *, tmp_path):
    done = here("sync", "-H", host, str(source), str(tmp_path / "target"))
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("2 files sent, 0 unchanged, 0 deleted; ")
    assert names_in(tmp_path / "target") == names_in(source)
    again = here("sync", "-H", host, str(source), str(tmp_path / "target"))
    assert again.out.startswith("0 files sent, 2 unchanged, 0 deleted; ")


@pytest.mark.parametrize("words", [("", "x"), ("x", ""), ("--pull", "x", "")])
def test_an_empty_path_is_not_the_current_folder(here, host, words):
    done = here("sync", "-H", host, *words)
    assert (done.status, done.out) == (2, "")
    assert "it is empty; the current folder is '.'" in done.err


def test_the_plan_is_printed_and_nothing_is_done(here, host, source, *, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old.txt").write_text("old")
    (target / "one.txt").write_text("another")
    before = names_in(target)
    done = here("sync", "-n", "--delete", "-H", host, str(source), str(target))
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    expected = {"+ deep/two.txt", "~ one.txt", "- old.txt"}
    assert expected <= set(lines[:-1])
    assert lines[-1].startswith("would send 2 files, 2.9 KiB at most, and delete 1; ")
    assert names_in(target) == before
    assert (target / "one.txt").read_text() == "another"


def test_delete_and_exclude_are_passed_on(here, host, source, *, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old.txt").write_text("old")
    options = ("-v", "--delete", "--exclude", "one.*", "--exclude", "none")
    done = here("sync", *options, "-H", host, str(source), str(target))
    assert (done.status, done.err) == (0, "")
    assert "- old.txt" in done.out.splitlines()
    assert names_in(target) == ["deep", "deep/two.txt"]


def test_from_several_hosts_each_gets_a_folder_of_its_own(
    here, host, other, *, source, tmp_path
):
    target = tmp_path / "target"
    hosts = f"{host},{other}"
    done = here("sync", "--pull", "-H", hosts, str(source), str(target))
    assert (done.status, done.err) == (0, "")
    for name in (host, other):
        assert names_in(target / name) == names_in(source)
        assert f"{name} | 2 files sent, " in done.out


def test_a_sync_that_looks_like_a_mistake_is_halted(here, host, tmp_path):
    empty, target = tmp_path / "empty", tmp_path / "target"
    empty.mkdir()
    target.mkdir()
    (target / "kept.txt").write_text("kept")
    done = here("sync", "--delete", "-H", host, str(empty), str(target))
    assert (done.status, done.out) == (1, "")
    assert "nothing was changed, --force syncs nevertheless" in done.err
    assert names_in(target) == ["kept.txt"]
    forced = here("sync", "--delete", "--force", "-H", host, str(empty), str(target))
    assert forced.status == 0
    assert names_in(target) == []


def test_a_source_that_is_not_there_is_one_line(here, host, tmp_path):
    done = here("sync", "-H", host, str(tmp_path / "none"), str(tmp_path / "target"))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("mlepool: ")
    assert f"{tmp_path / 'none'}" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_host_that_is_not_there_does_not_keep_the_others(
    here, host, source, *, tmp_path
):
    hosts = f"{host},localhost:1"
    done = here("sync", "-H", hosts, str(source), str(tmp_path / "target"))
    assert done.status == 255
    assert f"{host} | 2 files sent" in done.out
    assert names_in(tmp_path / "target") == names_in(source)


def test_names_that_steer_a_terminal_do_not(here, host, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "red\x1b[31m\nnext").write_text("")
    done = here("sync", "-v", "-H", host, str(source), str(tmp_path / "target"))
    assert done.status == 0
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 2


def test_ctrl_c_leaves_the_tree_as_it_was_and_says_so(worker, source, tmp_path):
    (source / "large").write_bytes(os.urandom(64 << 20))
    target = tmp_path / "target"
    target.mkdir()
    (target / "one.txt").write_text("before")
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(4 << 20)  # bytes a second: no end in sight
        address = proxy.address.replace("127.0.0.1", "localhost")
        with running("sync", "-H", address, str(source), str(target)) as process:
            wait_until(lambda: proxy.forwarded() > 1 << 20)
            done = interrupt(process)
    assert done.status == 130
    assert "stopped; all is as it was" in done.err
    assert "Traceback" not in done.err
    assert names_in(target) == ["one.txt"]
    assert (target / "one.txt").read_text() == "before"


def test_ctrl_c_says_of_each_host_how_it_ended(worker, other, source, *, tmp_path):
    (source / "large").write_bytes(os.urandom(24 << 20))
    target = tmp_path / "target"
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(2 << 20)
        slow = proxy.address.replace("127.0.0.1", "localhost")
        hosts = f"{slow},{other}"
        with running(
            "sync", "--pull", "-H", hosts, str(source), str(target)
        ) as process:
            wait_until(lambda: (target / other / "large").exists(), limit=30)
            done = interrupt(process)
    assert done.status == 130
    assert f"mlepool: {slow}: stopped; all is as it was\n" in done.err
    assert f"mlepool: {other}: all was done before\n" in done.err
    assert names_in(target / other) == names_in(source)
    assert not (target / slow).exists()


def test_changes_follow_until_ctrl_c_which_sums_them_up(host, source, tmp_path):
    target = tmp_path / "target"
    with running("sync", "--watch", "-H", host, str(source), str(target)) as process:
        wait_until(lambda: (target / "deep" / "two.txt").exists())
        (source / "new.txt").write_text("new")
        wait_until(lambda: (target / "new.txt").exists())
        done = interrupt(process)
    assert done.status == 130
    assert "+ new.txt" in done.out.splitlines()
    assert "stopped; 3 files sent, 2 unchanged, 0 deleted; " in done.err


def test_where_nobody_reads_what_is_printed_it_ends_and_leaves_the_tree(
    host, source, tmp_path
):
    for number in range(2000):
        (source / f"{number:04d}{'x' * 200}").write_text("")
    line = f'"$@" | head -n 1; echo "${{PIPESTATUS[0]}}"; ls {tmp_path / "target"}'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *MLEPOOL, "sync", "-n", "-H", host]
        + [str(source), str(tmp_path / "target")],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout.splitlines()[1:] == ["141"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "target").exists()


def test_bars_are_drawn_on_a_terminal_only(host, source, tmp_path):
    command = [*MLEPOOL, "sync", "-H", host, str(source), str(tmp_path / "target")]
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=theirs, text=True
        ) as process:
            os.close(theirs)
            seen = drawn(ours)
            assert process.stdout is not None
            out = process.stdout.read()
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert "2/2 files" in seen
    assert out.startswith("2 files sent, ")
    piped = mlepool("sync", "-H", host, str(source), str(tmp_path / "target"))
    assert piped.err == ""


def drawn(fd: int) -> str:
    """Read what is written to a terminal, until nobody has it open."""
    parts, deadline = [], time.monotonic() + LIMIT
    while select.select([fd], [], [], deadline - time.monotonic())[0]:
        try:
            parts.append(os.read(fd, 65536))
        except OSError:  # Linux says so when the last one has closed it
            break
    return b"".join(parts).decode("utf-8", "replace")


COUNT_WHAT_IS_READ = """
import sys
from mlepool.cli.main import main
def count():
    return int(open("/proc/self/io").readline().split()[1])
before = count()
try:
    main()
finally:
    print(count() - before)
"""


def test_a_folder_is_read_once_for_several_hosts(host, other, tmp_path):
    source = tmp_path / "large"
    source.mkdir()
    size = 12_000_000  # less than is held of it for those that come later
    (source / "file").write_bytes(os.urandom(size))
    done = subprocess.run(
        [
            *(sys.executable, "-c", COUNT_WHAT_IS_READ, "sync"),
            *("-H", f"{host},{other}", str(source), str(tmp_path / "there")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Described and sent: twice; for each host by itself it would be four times.
    assert int(done.stdout.splitlines()[-1]) < 3.5 * size
