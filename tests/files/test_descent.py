"""Reaching into trees by descriptors: what is refused, and what is never followed."""

import os

import pytest

from mlepool.files.descent import (
    MAX_OPEN,
    Root,
    is_inside,
    locate_root,
    make_real,
    open_nearest,
    open_real,
    paths_in,
    split_path,
)
from tests.files.trees import as_nobody, listing, make_tree

HOSTILE = [
    *(b"", b"/", b"/etc/passwd", b"..", b"../x", b"a/../b", b"a/..", b".", b"./a"),
    *(b"a//b", b"a/", b"a\0b", b"a/./b", b"//a"),
]


@pytest.fixture
def root(tmp_path):
    make_tree(tmp_path / "tree", {"a": b"1", "sub/b": b"2", "sub/deep/c": b"3"})
    root = Root(open_real(os.fsencode(os.path.realpath(tmp_path / "tree"))))
    yield root
    root.close()


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_leads_out_of_the_tree_is_an_error(root, path):
    with pytest.raises(ValueError, match="not a path inside"):
        split_path(path)
    for act in (root.open_file, root.make_folder, root.parent):
        with pytest.raises(ValueError, match="not a path inside"):
            act(path)


def test_odd_names_are_paths_like_any_other():
    path = b"...\n/.. /\xff\\/a:b*"
    assert split_path(path) == [b"...\n", b".. ", b"\xff\\", b"a:b*"]


def test_what_is_inside_is_told_by_parts_and_not_by_prefixes():
    assert is_inside(b"/data/a", b"/data/a")
    assert is_inside(b"/data/a/b", b"/data/a")
    assert is_inside(b"/data", b"/")
    assert not is_inside(b"/data/ab", b"/data/a")
    assert not is_inside(b"/data", b"/data/a")


@pytest.mark.parametrize("where", ["ab", "../b", "link", "a/../ab", "a/out/x"])
def test_a_root_outside_the_allowed_folders_is_refused(tmp_path, where):
    make_tree(tmp_path, {"data/a/": b"", "data/ab/": b"", "b/": b""})
    os.symlink("../b", tmp_path / "data/link")
    os.symlink(tmp_path / "b", tmp_path / "data/a/out")
    with pytest.raises(PermissionError, match="not inside"):
        locate_root(tmp_path / "data" / where, [tmp_path / "data/a"])


def test_a_root_inside_the_allowed_folders_is_given_by_its_real_path(tmp_path):
    make_tree(tmp_path, {"data/a/b/": b""})
    os.symlink("data/a", tmp_path / "link")
    real = os.path.realpath(os.fsencode(tmp_path))
    for allowed in ("link", "data/a", "data"):
        found = locate_root(tmp_path / "link/b/new", [tmp_path / allowed])
        assert found == real + b"/data/a/b/new"


def test_a_root_that_has_a_link_in_it_by_now_is_not_opened(tmp_path):
    make_tree(tmp_path, {"data/a/": b"", "other/a/": b""})
    real = locate_root(tmp_path / "data/a")
    os.rename(tmp_path / "data", tmp_path / "aside")
    os.symlink("other", tmp_path / "data")
    for act in (open_real, make_real, open_nearest):
        with pytest.raises(NotADirectoryError):
            act(real)


def test_folders_in_a_tree_are_told_by_their_real_paths(tmp_path):
    make_tree(tmp_path, {"tree/a/own/key": b"", "tree-2/own/key": b""})
    (tmp_path / "link").symlink_to(tmp_path / "tree/a")
    root = os.fsencode(os.path.realpath(tmp_path / "tree"))
    places = ["tree/a/own", "link/own", "tree-2/own", "tree/a/not-there"]
    found = paths_in(root, [tmp_path / one for one in places])
    assert found == [b"a/own", b"a/own", b"a/not-there"]


def test_the_deepest_folder_that_is_there_is_found(tmp_path):
    fd, missing = open_nearest(os.fsencode(os.path.realpath(tmp_path)) + b"/x/y")
    assert os.path.samestat(os.fstat(fd), os.stat(tmp_path))
    assert missing == [b"x", b"y"]
    os.close(fd)


def test_files_are_opened_and_links_are_not(root, tmp_path):
    with open(root.open_file(b"sub/deep/c"), "rb") as file:
        assert file.read() == b"3"
    os.symlink("a", tmp_path / "tree/link")
    os.mkfifo(tmp_path / "tree/pipe")
    for path in (b"link", b"pipe", b"sub", b"missing"):
        with pytest.raises(OSError):  # noqa: PT011
            root.open_file(path)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_folder_that_became_a_link_is_not_entered(root, tmp_path, is_known):
    make_tree(tmp_path / "outside", {"deep/c": b"secret"})
    if is_known:
        root.folder(b"sub/deep")
    os.rename(tmp_path / "tree/sub", tmp_path / "aside")
    os.symlink(tmp_path / "outside", tmp_path / "tree/sub")
    root.folder(b"")
    with pytest.raises(NotADirectoryError):
        root.folder(b"sub/deep")


def test_a_known_folder_is_not_followed_to_where_it_was_moved(root, tmp_path):
    root.folder(b"sub/deep")
    os.rename(tmp_path / "tree/sub", tmp_path / "aside")
    make_tree(tmp_path / "tree", {"sub/deep/": b"", "other/": b""})
    root.folder(b"other")
    root.make_folder(b"sub/deep/new")
    assert (tmp_path / "tree/sub/deep/new").is_dir()
    assert not (tmp_path / "aside/deep/new").exists()


def test_modes_and_times_never_reach_behind_a_link(root, tmp_path):
    outside = make_tree(tmp_path / "outside", {"x": b""}) / "x"
    os.symlink(outside, tmp_path / "tree/link")
    before = listing(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic link"):
        root.set_mode(b"link", 0o777)
    root.set_mtime(b"link", 5)
    assert listing(tmp_path / "outside") == before
    assert os.lstat(tmp_path / "tree/link").st_mtime_ns == 5


def test_modes_and_times_are_set(root, tmp_path):
    root.set_mode(b"sub", 0o700)
    root.set_mode(b"a", 0o4711)
    root.set_mode(b"", 0o750)
    root.set_mtime(b"sub/deep", 123_456_789_012_345_678)
    paths = [tmp_path / "tree" / one for one in ("sub", "a", "")]
    assert [os.stat(one).st_mode & 0o7777 for one in paths] == [0o700, 0o4711, 0o750]
    found = os.stat(tmp_path / "tree/sub/deep").st_mtime_ns
    assert found == 123_456_789_012_345_678


def test_paths_of_many_thousand_characters_are_reached(root):
    path = b"/".join([b"n" * 200] * 30)
    assert len(path) > 6000
    root.make_folders(path)
    root.make_folders(path)  # again is fine
    root.set_mtime(path, 7)
    assert root.stat(path).st_mtime_ns == 7


def test_few_folders_are_kept_open(root, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * MAX_OPEN):
        root.make_folders(f"many/{number}/x".encode())
    assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN
    for number in range(3 * MAX_OPEN):
        assert root.stat(f"many/{number}/x".encode())
    root.forget()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_folders_that_can_be_entered_but_not_read_are_on_the_way(open_folder):
    make_tree(open_folder, {"closed/tree/a": b""})
    os.chmod(open_folder / "closed", 0o711)
    with as_nobody():
        root = Root(open_real(os.fsencode(open_folder / "closed/tree")))
        assert root.stat(b"a").st_size == 0
        root.close()
