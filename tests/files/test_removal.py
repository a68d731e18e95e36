"""Folders are removed with all that is in them."""

import os

import pytest

from mlepool.files.removal import remove_tree
from tests.files.trees import as_nobody, make_tree
from tests.needs import NOBODY


def remove(folder, name: bytes) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def test_all_goes_and_what_links_lead_to_stays(tmp_path):
    make_tree(tmp_path, {"t/a": b"", "t/s/b": b"", "t/s/s/": b"", "stays/x": b""})
    os.symlink(tmp_path / "stays", tmp_path / "t/s/link")
    os.symlink(tmp_path / "stays", tmp_path / "link")
    os.mkfifo(tmp_path / "t/pipe")
    remove(tmp_path, b"t")
    remove(tmp_path, b"link")
    assert os.listdir(tmp_path) == ["stays"]
    assert os.listdir(tmp_path / "stays") == ["x"]
    with pytest.raises(FileNotFoundError):
        remove(tmp_path, b"t")


def test_hundreds_of_levels_are_no_problem(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir(b"d", dir_fd=fd)
        os.close(os.open(b"file", os.O_CREAT, dir_fd=fd))
        below = os.open(b"d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove(tmp_path, b"d")
    assert os.listdir(tmp_path) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_folders_that_are_closed_to_us_are_opened(open_folder):
    make_tree(open_folder, {"t/a/b/c": b"", "t/a/d/": b""})
    for path in (*(open_folder / "t").rglob("*"), open_folder / "t"):
        os.chown(path, NOBODY, NOBODY)
    for name in ("t/a/b", "t/a/d", "t/a", "t"):
        os.chmod(open_folder / name, 0)
    with as_nobody():
        remove(open_folder, b"t")
    assert os.listdir(open_folder) == []
