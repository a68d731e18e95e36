"""The end that is written: trees on a real disk, made like others."""

import os
import random

from tests.files.trees import MTIME, listing, make_tree, sync

LARGE = random.Random(1).randbytes(3_000_000)


def test_a_tree_is_made_where_there_was_none(tmp_path):
    source = make_tree(
        tmp_path / "src",
        {"a": b"one", "sub/b": b"two", "empty/": b"", "zero": b"", "big": LARGE},
    )
    os.symlink("a", source / "link")
    os.chmod(source / "a", 0o640)
    sender, report = sync(source, tmp_path / "x" / "dst", tmp_path / "state")
    assert listing(tmp_path / "x" / "dst", times=False) == listing(source, times=False)
    found, expected = listing(tmp_path / "x" / "dst"), listing(source)
    del found[b"."], expected[b"."]
    assert found == expected
    assert (report.written, report.problems, report.deleted) == (4, [], 0)
    assert sender.sent == 6 + len(LARGE)


def test_a_tree_that_is_the_same_is_left_alone(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"one", "sub/b": b"two"})
    sync(source, tmp_path / "dst", tmp_path / "state")
    before = listing(tmp_path / "dst")
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state")
    assert sender.plan.is_empty or sender.plan.files == []
    assert report.written == 0
    assert listing(tmp_path / "dst") == before


def test_only_what_changed_in_a_large_file_is_sent(tmp_path):
    source = make_tree(tmp_path / "src", {"big": LARGE})
    sync(source, tmp_path / "dst", tmp_path / "state")
    changed = LARGE[:1_000_000] + b"!" + LARGE[1_000_000:]
    make_tree(source, {"big": changed})
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state")
    assert (tmp_path / "dst/big").read_bytes() == changed
    assert 0 < sender.sent < 1_600_000
    assert report.reused == len(changed) - sender.sent
    assert os.stat(tmp_path / "dst/big").st_mtime_ns == MTIME
