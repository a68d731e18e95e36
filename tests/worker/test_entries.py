"""Listings and patterns, against Python's own glob."""

import glob
import os

import pytest

from mlepool.files.descent import FOLDER_FLAGS, Root
from mlepool.worker import entries
from mlepool.worker.entries import find_matches, info_of, page_of, split_pattern
from mlepool.worker.jail import Place

FILES = [
    *("a.py", "b.txt", ".hidden.py", "sub/a.py", "sub/deep/er/a.py", "sub/[x].py"),
    *("runs/1/metrics.json", "runs/2/metrics.json", "runs/2/log", ".git/a.py"),
    *("emoji/\N{SNOWMAN}.py", "sub/deep/b.txt"),
]
PATTERNS = [
    *("*", "*.py", "**/*.py", "**", "runs/*/metrics.json", "runs/?/*", "sub/**/a.py"),
    *(".*", "a.py", "none", "sub/*", "[ab].*", "sub/deep/**", "**/**/*.txt", "s*/d*/*"),
    *("sub/[[]x].py", "emoji/?.py", "./sub/../*.py", "*/none/*", "**/er"),
]


@pytest.fixture
def tree(tmp_path):
    for one in FILES:
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).write_text("x")
    return tmp_path


def matches(tree, pattern: str, *, closed: str = "-") -> list[str]:
    folder, parts = split_pattern(os.fsencode(pattern))
    root = Root(os.open(os.path.join(os.fsencode(tree), folder), FOLDER_FLAGS))
    try:
        found = find_matches(root, parts, is_open=lambda one: one != closed.encode())
    finally:
        root.close()
    return [os.fsdecode(os.path.join(folder, one)) for one in found]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_python_s_glob_finds(tree, pattern):
    theirs = glob.glob(pattern, root_dir=tree, recursive=True)
    wanted = {os.path.normpath(one) for one in theirs} - {".", "sub/deep"}
    found = matches(tree, pattern)
    assert {os.path.normpath(one) for one in found} - {"sub/deep"} == wanted
    assert found == sorted(set(found))


def test_links_are_found_and_not_looked_into(tree):
    (tree / "sub/loop").symlink_to("..")
    assert "sub/loop" in matches(tree, "**")
    assert not [one for one in matches(tree, "**/*.py") if "loop/" in one]


def test_a_closed_folder_is_not_looked_into(tree):
    assert matches(tree, "**/a.py", closed="sub") == ["a.py"]


def test_two_dots_have_their_place(tree):
    with pytest.raises(ValueError, match="first wildcard"):
        split_pattern(b"*/../x")


def test_an_unreadable_folder_is_left_out_and_a_missing_root_is_an_error(tree):
    with pytest.raises(FileNotFoundError):
        matches(tree, "none/*")


def test_a_pattern_that_matches_too_much_is_refused(tree, monkeypatch):
    monkeypatch.setattr(entries, "MAX_MATCHES", 3)
    with pytest.raises(ValueError, match="narrower"):
        matches(tree, "**")


def test_pages_follow_each_other(tree, monkeypatch):
    monkeypatch.setattr(entries, "PAGE", 300)
    fd = os.open(tree, FOLDER_FLAGS)
    names = [f"f{number:02}".encode() for number in range(20)]
    for name in names[:-1]:  # the last one has gone meanwhile
        (tree / os.fsdecode(name)).touch()
    found, after = list[str](), b""
    try:
        while True:
            places = [(one, Place(fd, one, b"/x/" + one)) for one in names]
            page = page_of("/x", places, after=after)
            assert len(page) <= 5
            found += page.names
            after = page.more
            if not after:
                break
    finally:
        os.close(fd)
    assert found == [one.decode() for one in names[:-1]]


def test_of_a_very_large_folder_only_the_next_names_are_held(tree, monkeypatch):
    monkeypatch.setattr(entries, "MOST", 3)
    (tree / "many").mkdir()
    for number in range(10):
        (tree / f"many/{number}").touch()
    fd = os.open(tree / "many", FOLDER_FLAGS)
    try:
        names = entries.next_names(fd, b"4")
        assert names == [
            b"5",
            b"6",
            b"7",
            b"8",
        ]  # one more: it goes on
        places = [(one, Place(fd, one, b"/x/" + one)) for one in names]
        page = page_of("/x", places, after=b"4")
    finally:
        os.close(fd)
    assert (page.names, page.more) == (["5", "6", "7"], b"7")


def test_odd_names_and_kinds_are_described(tree):
    fd = os.open(tree, FOLDER_FLAGS)
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to("no where")
    open(os.fsencode(tree) + b"/\xff", "w").close()
    try:
        pipe, link, odd = (
            info_of(Place(fd, one, b"/x/" + one)) for one in (b"pipe", b"link", b"\xff")
        )
    finally:
        os.close(fd)
    assert (pipe.kind, link.kind, link.target) == ("pipe", "link", "no where")
    assert (odd.name, odd.raw, odd.path) == (
        "\N{REPLACEMENT CHARACTER}",
        b"\xff",
        "/x/\N{REPLACEMENT CHARACTER}",
    )
    assert odd.raw_path == b"/x/\xff"
    assert (odd.decoded().name, odd.decoded().path) == ("\udcff", "/x/\udcff")
    assert link.decoded() is link
    assert (link.raw, link.raw_path) == (b"", b"")
