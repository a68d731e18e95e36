"""Bundles: what is in several places, as one tree."""

import asyncio
import os

import pytest

from mlepool.client.files.bundles import MAX_LINKS, Bundle, Part, only
from mlepool.files.base import Offer, Piece, Problem, SourceOptions
from mlepool.files.scan import scan_tree
from mlepool.files.source import LocalSource
from mlepool.files.store import Store
from mlepool.tree import FILE, Entry


@pytest.fixture
def bundle(tmp_path):
    """Makes bundles of folders of the test's own."""
    store = Store(tmp_path / "state")

    def open_source(folder, names):
        options = SourceOptions(only(names), ())
        return LocalSource(os.fsdecode(folder), options, store=store)

    def make(*parts, **keywords):
        return Bundle(parts, open_source, **keywords)

    yield make
    store.close()


def make_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"in {name}")
    return os.fsencode(folder)


async def scanned(bundle):
    try:
        return await bundle.scan()
    finally:
        await bundle.close()


def test_what_is_named_comes_from_each_folder_under_its_new_name(bundle, tmp_path):
    one = make_files(tmp_path / "one", "a", "b", "other")
    two = make_files(tmp_path / "two", "deep/er/c", "a")
    made = bundle(Part(one, {b"a": b"a", b"b": b"x"}), Part(two, {b"deep": b"moved"}))
    found = asyncio.run(scanned(made))
    paths = [b"a", b"moved", b"moved/er", b"moved/er/c", b"x"]
    assert [entry.path for entry in found.entries] == paths
    assert found.problems == []


def test_files_are_read_where_they_are(bundle, tmp_path):
    one = make_files(tmp_path / "one", "a", "b")
    two = make_files(tmp_path / "two", "a", "c")
    made = bundle(Part(one, {b"a": b"1", b"b": b"3"}), Part(two, {b"a": b"2"}))

    async def read():
        found = await made.scan()
        numbered = list(enumerate(found.entries))
        offers = await made.describe_many(numbered)
        assert [one.number for one in offers if isinstance(one, Offer)] == [0, 1, 2]
        single = await made.describe(found.entries[1], 1)
        assert single == offers[1]
        pieces = await made.read_many(numbered)
        assert await made.read(found.entries[2], 2, ranges=[(3, 1)]) == [
            Piece(2, 3, b"b")
        ]
        await made.close()
        return [piece.data for piece in pieces if isinstance(piece, Piece)]

    assert asyncio.run(read()) == [b"in a", b"in a", b"in b"]


def test_a_problem_has_the_path_that_it_has_in_the_bundle(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a", "b")
    made = bundle(Part(folder, {b"a": b"x", b"b": b"y"}))

    async def read():
        found = await made.scan()
        (tmp_path / "one" / "a").unlink()
        (tmp_path / "one" / "b").write_text("longer than before")
        numbered = list(enumerate(found.entries))
        answers = await made.describe_many(numbered)
        answers += [await made.describe(found.entries[0], 0)]
        answers += await made.read_many(numbered)
        await made.close()
        return [answer.path for answer in answers if isinstance(answer, Problem)]

    assert asyncio.run(read()) == [b"x", b"y", b"x", b"x", b"y"]


def test_what_is_known_is_not_looked_for(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a")
    entry = Entry(b"a", FILE, mode=0o600, size=4, mtime_ns=5)
    made = bundle(Part(folder, {b"a": b"b"}, look=lambda: [entry]))
    found = asyncio.run(scanned(made))
    assert found.entries == [Entry(b"b", FILE, mode=0o600, size=4, mtime_ns=5)]


def test_a_link_that_is_named_stands_for_what_it_points_to(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a", "deep/b")
    (tmp_path / "one" / "first").symlink_to("second")
    (tmp_path / "one" / "second").symlink_to(tmp_path / "one" / "a")
    (tmp_path / "one" / "folder").symlink_to("deep/")
    (tmp_path / "one" / "deep" / "inner").symlink_to("b")
    made = bundle(Part(folder, {b"first": b"x", b"folder": b"y"}))
    found = asyncio.run(scanned(made))
    kinds = [(entry.path, entry.kind) for entry in found.entries]
    assert kinds == [(b"x", "f"), (b"y", "d"), (b"y/b", "f"), (b"y/inner", "l")]


def test_links_that_lead_nowhere_are_errors(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a")
    (tmp_path / "one" / "gone").symlink_to("nothing")
    (tmp_path / "one" / "round").symlink_to("round")
    (tmp_path / "one" / "up").symlink_to("..")
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(scanned(bundle(Part(folder, {b"gone": b"x"}))))
    assert caught.value.filename == str(tmp_path / "one" / "nothing")
    for name in (b"round", b"up"):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            asyncio.run(scanned(bundle(Part(folder, {name: b"x"}))))


def test_so_many_links_are_followed_and_no_more(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "0")
    for number in range(MAX_LINKS + 1):
        (tmp_path / "one" / f"{number + 1}").symlink_to(f"{number}")
    last = str(MAX_LINKS).encode()
    found = asyncio.run(scanned(bundle(Part(folder, {last: b"x"}))))
    assert [entry.kind for entry in found.entries] == ["f"]
    beyond = str(MAX_LINKS + 1).encode()
    with pytest.raises(OSError, match="Too many levels"):
        asyncio.run(scanned(bundle(Part(folder, {beyond: b"x"}))))


def test_what_is_not_there_is_an_error_that_names_it(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a")
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(scanned(bundle(Part(folder, {b"a": b"a", b"none": b"b"}))))
    assert caught.value.filename == str(tmp_path / "one" / "none")


def test_a_folder_is_refused_where_a_file_has_to_be(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a", "deep/b")
    made = bundle(Part(folder, {b"a": b"a"}), is_file=True)
    assert len(asyncio.run(scanned(made)).entries) == 1
    with pytest.raises(IsADirectoryError):
        asyncio.run(scanned(bundle(Part(folder, {b"deep": b"a"}), is_file=True)))


def test_what_is_of_no_kind_that_is_synced_is_a_problem(bundle, tmp_path):
    folder = make_files(tmp_path / "one", "a")
    os.mkfifo(tmp_path / "one" / "pipe")
    found = asyncio.run(scanned(bundle(Part(folder, {b"pipe": b"x"}))))
    assert [problem.path for problem in found.problems] == [b"x"]


@pytest.mark.parametrize(
    "name",
    [b"plain", b"*", b"[a]", b"!x", b"#x", b" x ", b"\\", b"a\nb", b"\xff\xfe", b"?"]
    + ["ä".encode(), b"-", b"a?b", b"{a,b}", b"...", b"~"],
)
def test_patterns_leave_nothing_out_that_is_named(name, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = os.path.join(os.fsencode(folder), name)
    os.mkdir(path)
    with open(os.path.join(path, b"inner"), "wb"):
        pass
    for other in ("other", "more"):
        (folder / other).write_text("")
    fd = os.open(folder, os.O_RDONLY)
    try:
        found = scan_tree(fd, exclude=only([name]), ignore_files=())
    finally:
        os.close(fd)
    paths = {entry.path for entry in found.entries}
    assert {name, name + b"/inner"} <= paths


def test_patterns_leave_out_what_is_not_named(tmp_path):
    make_files(tmp_path, "a", "ab", "deep/a", "b")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = scan_tree(fd, exclude=only([b"a"]), ignore_files=())
    finally:
        os.close(fd)
    assert [entry.path for entry in found.entries] == [b"a"]
