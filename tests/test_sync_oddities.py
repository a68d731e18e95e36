"""Syncs of what is seldom: paths, names and times that nobody means."""

import os

import pytest

from mlepool.tree import MAX_TIME
from tests.needs import lacking

pytestmark = pytest.mark.real


def test_an_empty_path_is_not_the_current_folder(conn, tmp_path, monkeypatch):
    tree = tmp_path / "source"
    tree.mkdir()
    monkeypatch.chdir(tree)
    for places, keywords in (
        (("", tmp_path / "x"), {}),
        (("", tmp_path / "x"), {"watch": True}),
        ((tree, ""), {"pull": True}),
    ):
        with pytest.raises(ValueError, match="empty path"):
            conn.sync(*places, **keywords)
    with pytest.raises(ValueError, match="empty path"):
        conn.run("true", sync="")
    assert not (tmp_path / "x").exists()


def test_a_tilde_that_is_nobodys_is_part_of_a_name(conn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-has-it").mkdir()
    (tmp_path / "~nobody-has-it/file").write_text("mine")
    conn.sync("~nobody-has-it", tmp_path / "x", raise_error=True)
    assert (tmp_path / "x/file").read_text() == "mine"


@pytest.mark.parametrize("pull", [False, True])
def test_a_time_that_cannot_be_said_keeps_no_other_file(conn, tmp_path, pull):
    source, there = tmp_path / "source", tmp_path / "there"
    source.mkdir()
    for name in ("file", "late"):
        (source / name).write_text(name)
    late = MAX_TIME + 10**9  # in the year 2262
    os.utime(source / "late", ns=(late, late))
    if (source / "late").stat().st_mtime_ns != late:
        lacking("a disk that takes times after 2262")
    done = conn.sync(source, there, pull=pull)
    (problem,) = done.value.problems
    assert problem.path == "late"
    assert "1677 to 2262" in problem.text
    assert os.listdir(there) == ["file"]
    put = conn.put(source / "late", tmp_path / "x")
    assert isinstance(put.error, OSError)
    assert put.error.filename == str(source / "late")
    os.utime(source / "late")
    os.utime(there / "file", ns=(late, late))
    conn.sync(source, there, pull=pull, raise_error=True)
    assert (there / "file").stat().st_mtime_ns == (source / "file").stat().st_mtime_ns
