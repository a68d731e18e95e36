"""What a sync with a real worker deletes, and what it leaves alone; both ways."""

import os
from pathlib import Path

import pytest

from tests.test_sync import differences

pytestmark = pytest.mark.real

BOTH_WAYS = pytest.mark.parametrize("pull", [False, True])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("one")
    (root / "deep" / "b.txt").write_text("two")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    (root / "deep" / "gone").mkdir(parents=True)
    (root / "old").mkdir()
    for name in ("x.pyc", "keep.pyc", "deep/data.bin", "deep/y.tmp", "old/z.pyc"):
        (root / name).write_text(name)
    (root / "deep" / "gone" / "file").write_text("goes")
    (root / "old" / "file").write_text("goes")
    return root


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@BOTH_WAYS
def test_what_the_source_ignores_is_kept_where_no_ignore_file_is_yet(
    conn, source, target, *, pull
):
    (source / ".gitignore").write_text("*.pyc\n")
    (source / "deep" / ".gitignore").write_text("data.bin\n")
    options = {"pull": pull, "exclude": ("!keep.pyc", "*.tmp")}
    plan = conn.sync(source, target, delete=True, dry_run=True, **options)
    done = conn.sync(source, target, delete=True, **options)
    assert names_in(target) == {
        *(".gitignore", "a.txt", "deep", "deep/.gitignore", "deep/b.txt"),
        *("x.pyc", "deep/data.bin", "deep/y.tmp", "old", "old/z.pyc"),
    }
    gone = {"- keep.pyc", "- deep/gone", "- old/file"}
    assert {one for one in plan if one[0] == "-"} == gone
    assert {one for one in done if one[0] == "-"} == gone
    assert plan.value.deleted == done.value.deleted == 3


@BOTH_WAYS
def test_ignore_files_that_hide_themselves_and_large_ones_count(
    conn, source, target, *, pull
):
    lines = "".join(f"name{number:08}\n" for number in range(60_000))
    (source / ".gitignore").write_text(f"{lines}*.pyc\n.*\n")
    conn.sync(source, target, delete=True, pull=pull, force=True)
    assert names_in(target) == {
        *("a.txt", "deep", "deep/b.txt", "x.pyc", "keep.pyc", "old", "old/z.pyc")
    }


@BOTH_WAYS
def test_special_files_of_the_target_are_its_own(conn, source, tmp_path, *, pull):
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    os.mkfifo(there / "deep" / "pipe")
    os.mkfifo(there / "a.txt")
    for options in ({}, {"delete": True}, {"dry_run": True}):
        job = conn.sync(source, there, pull=pull, **options)
        assert (job.status, job.value.problems) == ("SUCCEEDED", ())
    assert names_in(there) == {*names_in(source), "deep/pipe"}
    (there / "deep" / "pipe").unlink()
    os.utime(there / "deep", ns=(1, (source / "deep").stat().st_mtime_ns))
    assert differences(source, there) == ""
