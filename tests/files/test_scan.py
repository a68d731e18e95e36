"""Trees on a real disk: what is listed, what is not, and what nobody gets out by."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.files import scan as module
from mlepool.files.base import Scan
from mlepool.files.descent import places_of
from mlepool.files.scan import MAX_IGNORE_FILE, MAX_OPEN, scan_tree
from mlepool.tree import FILE, FOLDER, LINK, Entry, decode_pages, encode_pages
from tests.needs import NOBODY, need_root, small_disk


def scan(root: Path, **options) -> Scan:
    fd = os.open(root, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        return scan_tree(fd, **options)
    finally:
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(fd)


def paths(found: Scan) -> list[bytes]:
    return [entry.path for entry in found.entries]


def put(root: Path, *names: str) -> None:
    """Make files, and folders where a name ends with a slash."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_text(name)


# -- what there is


def test_files_folders_and_links_are_listed_with_what_they_are(tmp_path):
    (tmp_path / "a").mkdir(mode=0o750)
    (tmp_path / "a/file").write_bytes(b"12345")
    (tmp_path / "a/file").chmod(0o4711)
    (tmp_path / "link").symlink_to("../nowhere")
    for name, time in (("a/file", 1_000_000_007), ("a", -5)):
        os.utime(tmp_path / name, ns=(0, time))
    time = (tmp_path / "link").lstat().st_mtime_ns
    assert scan(tmp_path).entries == [
        Entry(b"a", FOLDER, 0o750, 0, -5),
        Entry(b"a/file", FILE, 0o4711, 5, 1_000_000_007),
        Entry(b"link", LINK, 0, 0, time, b"../nowhere"),
    ]


def test_an_empty_tree_has_no_entries(tmp_path):
    assert scan(tmp_path) == Scan([])


def test_empty_folders_and_empty_files_are_listed(tmp_path):
    put(tmp_path, "a/", "b/c/")
    (tmp_path / "d").touch()
    assert paths(scan(tmp_path)) == [b"a", b"b", b"b/c", b"d"]


def test_a_folder_comes_right_before_what_is_in_it(tmp_path):
    put(tmp_path, "a/z", "a.b", "a-b/c", "a/b/c", "B")
    expected = [b"B", b"a", b"a/b", b"a/b/c", b"a/z", b"a-b", b"a-b/c", b"a.b"]
    assert paths(scan(tmp_path)) == expected
    assert expected == sorted(expected, key=lambda path: path.split(b"/"))


def test_names_are_whatever_bytes_they_are(tmp_path):
    names = [b"\xff\xfe", b"new\nline", b" ", b"\xc3\xa9", b"-rf", b"*", b"a" * 255]
    for name in names:
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).touch()
    found = scan(tmp_path)
    assert paths(found) == sorted(names)
    assert decode_pages(encode_pages(found.entries)) == found.entries


def test_what_a_link_leads_to_is_not_looked_at(tmp_path):
    put(tmp_path, "outside/secret", "tree/f")
    (tmp_path / "tree/l").symlink_to(tmp_path / "outside")
    (tmp_path / "tree/loop").symlink_to(".")
    assert paths(scan(tmp_path / "tree")) == [b"f", b"l", b"loop"]


def test_the_root_may_be_open_without_the_right_to_read_from_it(tmp_path):
    put(tmp_path, "a/b")
    fd = os.open(tmp_path, os.O_PATH)
    assert paths(scan_tree(fd)) == [b"a", b"a/b"]
    os.close(fd)


@contextlib.contextmanager
def deep(root: Path, depth: int, *, name: str = "d" * 20) -> Iterator[None]:
    """Make folders in each other, with a file before and a folder behind each."""
    fd = os.open(root, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.close(os.open("a", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.mkdir("z", dir_fd=fd)
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield
    finally:
        os.close(fd)
        subprocess.run(["rm", "-rf", root], check=True)


def test_paths_of_thousands_of_characters_and_many_levels_are_listed(tmp_path):
    with deep(tmp_path / make(tmp_path, "t"), 400):
        found = scan(tmp_path / "t")
    assert len(found.entries) == 3 * 400
    assert len(found.entries[-1].path) == 1
    assert max(map(len, paths(found))) == 400 * 21 - 1
    assert found.problems == []
    assert paths(found) == sorted(paths(found), key=lambda path: path.split(b"/"))


def make(root: Path, name: str) -> str:
    (root / name).mkdir()
    return name


def test_a_deep_tree_needs_few_descriptors(tmp_path, monkeypatch):
    most = 0
    real = os.scandir

    def counting(fd: int):
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return real(fd)

    before = len(os.listdir("/proc/self/fd"))
    with deep(tmp_path / make(tmp_path, "t"), MAX_OPEN * 3, name="d"):
        monkeypatch.setattr(os, "scandir", counting)
        found = scan(tmp_path / "t")
    assert len(found.entries) == MAX_OPEN * 3 * 3
    assert most <= before + MAX_OPEN + 5


def test_a_path_that_is_too_long_for_a_page_is_a_problem(tmp_path, monkeypatch):
    put(tmp_path, "abc/d")
    monkeypatch.setattr(module, "MAX_PATH", 4)
    found = scan(tmp_path)
    assert found.entries[0].size == 1
    assert [(one.path, one.text) for one in found.problems] == [
        (b"abc/d", "a path of 5 bytes")
    ]


# -- what can't be synced


def test_special_files_are_problems_and_their_folder_knows_of_them(tmp_path):
    put(tmp_path, "a/b")
    os.mkfifo(tmp_path / "a/pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "a/sock"))
    server.close()
    found = scan(tmp_path)
    assert paths(found) == [b"a", b"a/b"]
    assert found.entries[0].size == 2
    assert sorted((one.path, one.text) for one in found.problems) == [
        (b"a/pipe", "a pipe is not synced"),
        (b"a/sock", "a socket is not synced"),
    ]


def test_a_device_is_a_problem(tmp_path):
    need_root()
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    (problem,) = scan(tmp_path).problems
    assert problem.text == "a character device is not synced"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    need_root()
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_a_problem_and_the_others_go_on(tmp_path):
    put(tmp_path, "t/a/x", "t/b/x", "t/c/x")
    for name in ("", "t", "t/a", "t/c"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "t/b").chmod(0o700)
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    with as_nobody():
        found = scan_tree(fd)
    os.close(fd)
    assert paths(found) == [b"a", b"a/x", b"b", b"c", b"c/x"]
    assert [entry.size for entry in found.entries if entry.kind == FOLDER] == [0, 1, 0]
    assert [one.path for one in found.problems] == [b"b"]
    assert "denied" in found.problems[0].text


def test_a_root_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "t").mkdir(mode=0o700)
    fd = os.open(tmp_path / "t", os.O_PATH)
    with as_nobody(), pytest.raises(PermissionError):
        scan_tree(fd)
    os.close(fd)


# -- what changes meanwhile: a real change between two steps of the walk


@contextlib.contextmanager
def once_listed(name: str, monkeypatch, change) -> Iterator[None]:
    """Have something done once, when a folder with that name in it was just listed."""
    real = os.scandir
    changes = [change]

    @contextlib.contextmanager
    def listed(fd: int):
        with real(fd) as things:
            found = list(things)
        if changes and any(thing.name == name for thing in found):
            changes.pop()()
        yield found

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", listed)
        yield


def test_a_file_that_vanishes_is_left_out_silently(tmp_path, monkeypatch):
    put(tmp_path, "a", "b", "c")
    with once_listed("b", monkeypatch, (tmp_path / "b").unlink):
        found = scan(tmp_path)
    assert paths(found) == [b"a", b"c"]
    assert found.problems == []


def test_a_folder_that_vanishes_is_left_out_silently(tmp_path, monkeypatch):
    put(tmp_path, "a/x", "b/y/z", "c")
    with once_listed("x", monkeypatch, lambda: shutil.rmtree(tmp_path / "b")):
        found = scan(tmp_path)
    assert paths(found) == [b"a", b"a/x", b"c"]
    assert found.problems == []


def test_a_folder_that_becomes_a_link_is_not_gone_into(tmp_path, monkeypatch):
    put(tmp_path, "outside/secret", "t/a/x", "t/b/y")
    tree = tmp_path / "t"

    def swap() -> None:
        (tree / "b").rename(tmp_path / "old")
        (tree / "b").symlink_to(tmp_path / "outside")

    with once_listed("x", monkeypatch, swap):
        found = scan(tree)
    assert paths(found) == [b"a", b"a/x", b"b"]
    assert [one.path for one in found.problems] == [b"b"]
    assert found.entries[-1].size == 1


def test_a_folder_far_above_that_becomes_a_link_leads_nowhere(tmp_path, monkeypatch):
    tree = tmp_path / make(tmp_path, "t")
    put(tmp_path, "outside/y/secret")
    depth = MAX_OPEN + 10
    with deep(tree, depth, name="d"):
        bottom = tree.joinpath(*["d"] * depth)
        put(bottom, "last")

        def swap() -> None:
            (tree / "d").rename(tmp_path / "old")
            (tree / "d").symlink_to(tmp_path / "outside")

        with once_listed("last", monkeypatch, swap):
            found = scan(tree)
    assert not any(b"secret" in path for path in paths(found))
    assert {one.path.rpartition(b"/")[2] for one in found.problems} == {b"z"}


# -- ignore files


def test_ignored_things_are_left_out_and_counted(tmp_path):
    put(tmp_path, "a/x.o", "a/x.c", "a/y.o", "build/z", "b/")
    (tmp_path / ".gitignore").write_text("*.o\n/build\n")
    found = scan(tmp_path)
    assert paths(found) == [b".gitignore", b"a", b"a/x.c", b"b"]
    assert [entry.size for entry in found.entries if entry.kind == FOLDER] == [2, 0]
    assert found.patterns == [(b"", b"*.o\n/build\n")]
    assert found.problems == []


def test_what_is_in_an_ignored_folder_is_not_even_looked_at(tmp_path, monkeypatch):
    put(tmp_path, "a/b/c", "build/x/y")

    def fail() -> None:
        raise AssertionError

    with once_listed("x", monkeypatch, fail):
        scan(tmp_path, exclude=["build/"])


def test_deeper_ignore_files_and_later_names_are_heard_first(tmp_path):
    put(tmp_path, "a/1", "a/2", "b/1", "b/2", "1", "2")
    (tmp_path / ".gitignore").write_text("1\n2")
    (tmp_path / ".mlepoolignore").write_text("!2\n")
    (tmp_path / "a/.gitignore").write_text("!1\n")
    found = scan(tmp_path, exclude=["/b/2", ".*ignore"])
    assert paths(found) == [b"2", b"a", b"a/1", b"a/2", b"b"]
    assert [path for path, _ in found.patterns] == [b"", b"", b"a"]


def test_names_of_ignore_files_can_be_chosen(tmp_path):
    put(tmp_path, "x", "y")
    (tmp_path / ".gitignore").write_text("x\n")
    (tmp_path / ".other").write_text("y\n")
    found = scan(tmp_path, ignore_files=(".other",))
    assert paths(found) == [b".gitignore", b".other", b"x"]
    assert b"y" in paths(scan(tmp_path, ignore_files=()))


def test_a_git_folder_is_synced_unless_it_is_excluded(tmp_path):
    put(tmp_path, ".git/HEAD", "x")
    assert b".git/HEAD" in paths(scan(tmp_path))
    assert paths(scan(tmp_path, exclude=[".git/"])) == [b"x"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_no_ignore_file(tmp_path, kind):
    put(tmp_path, "t/x")
    path = tmp_path / "t/.gitignore"
    if kind == "link":
        (tmp_path / "patterns").write_text("x\n")
        path.symlink_to("../patterns")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert b"x" in paths(scan(tmp_path / "t"))


@pytest.mark.parametrize("is_pipe", [True, False])
def test_an_ignore_file_that_goes_is_not_waited_for(tmp_path, monkeypatch, is_pipe):
    put(tmp_path, ".gitignore", "x")

    def swap() -> None:
        (tmp_path / ".gitignore").unlink()
        if is_pipe:
            os.mkfifo(tmp_path / ".gitignore")

    with once_listed("x", monkeypatch, swap):
        assert b"x" in paths(scan(tmp_path))


def test_a_folder_whose_ignore_file_can_not_be_read_is_not_given_away(tmp_path):
    put(tmp_path, "a/secret", "b")
    (tmp_path / "a/.gitignore").write_bytes(b"secret\n" + b"#" * MAX_IGNORE_FILE)
    found = scan(tmp_path)
    assert paths(found) == [b"a", b"b"]
    assert [one.path for one in found.problems] == [b"a"]
    assert found.entries[0].size == 1
    with pytest.raises(OSError, match=r"\.gitignore is over"):
        scan(tmp_path / "a")
    (tmp_path / "a/.gitignore").write_bytes(b"#" * MAX_IGNORE_FILE)
    assert b"a/secret" in paths(scan(tmp_path))


# -- folders of ours


def test_a_folder_of_ours_is_left_out_and_its_number_on_another_disk_is_not(tmp_path):
    put(tmp_path, "file", "own/key")
    own, file = (tmp_path / "own").stat(), (tmp_path / "file").stat()
    found = scan(tmp_path, own={(own.st_dev, own.st_ino)})
    assert paths(found) == [b"file"]
    elsewhere = {(one.st_dev + 1, one.st_ino) for one in (own, file)}
    found = scan(tmp_path, own={*elsewhere, (file.st_dev, file.st_ino)})
    assert paths(found) == [b"file", b"own", b"own/key"]


def test_a_folder_of_ours_is_left_out_also_if_it_is_a_mount(tmp_path):
    with small_disk(tmp_path / "tree/own", "1m") as own:
        put(tmp_path / "tree", "file", "own/key")
        assert paths(scan(tmp_path / "tree", own=places_of([own]))) == [b"file"]
