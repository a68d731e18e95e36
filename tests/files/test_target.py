"""The end that is written: trees on a real disk, made like others."""

import asyncio
import errno
import os
import random
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlepool.files.base import Chunk, Offer, Piece, Problem, TargetOptions
from mlepool.files.proofs import Record
from mlepool.files.store import Store
from mlepool.files.target import LocalTarget
from mlepool.tree import FILE, FOLDER, LINK, Entry
from tests.files.trees import (
    MTIME,
    Sender,
    as_nobody,
    listing,
    make_tree,
    sync,
)
from tests.needs import NOBODY

LARGE = random.Random(1).randbytes(3_000_000)


def contents(root: Path) -> dict[bytes, object]:
    """Give all of a tree but the root's own time, which is nobody's."""
    found = listing(root)
    return {path: facts for path, facts in found.items() if path != b"."}


def trashed(state: Path) -> dict[str, bytes]:
    """Give the files in the trash."""
    found = {}
    for tree in state.glob("trash/*/tree"):
        for path in tree.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(tree))] = path.read_bytes()
    return found


# -- a tree like another


def test_a_tree_is_made_where_there_was_none(tmp_path):
    source = make_tree(
        tmp_path / "src",
        {"a": b"one", "sub/b": b"two", "empty/": b"", "zero": b"", "big": LARGE},
    )
    os.symlink("a", source / "link")
    os.symlink("/nowhere/at all", source / "sub/broken")
    os.chmod(source / "a", 0o4750)
    os.chmod(source / "sub", 0o2755)
    sender, report = sync(source, tmp_path / "x" / "dst", tmp_path / "state")
    assert contents(tmp_path / "x/dst") == contents(source)
    assert (report.written, report.problems, report.deleted) == (4, [], 0)
    assert sender.sent == 6 + len(LARGE)


def test_a_tree_that_is_the_same_is_left_alone(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"one", "sub/b": b"two"})
    sync(source, tmp_path / "dst", tmp_path / "state")
    before, inode = listing(tmp_path / "dst"), os.stat(tmp_path / "dst/a").st_ino
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state")
    assert sender.plan.is_empty
    assert report.written == 0
    assert listing(tmp_path / "dst") == before
    assert os.stat(tmp_path / "dst/a").st_ino == inode


@pytest.mark.parametrize("has_store", [False, True])
def test_only_what_changed_in_a_large_file_is_sent(tmp_path, has_store):
    store = Store(tmp_path / "store") if has_store else None
    source = make_tree(tmp_path / "src", {"big": LARGE})
    sync(source, tmp_path / "dst", tmp_path / "state", store=store)
    changed = LARGE[:1_000_000] + b"!" + LARGE[1_000_000:]
    make_tree(source, {"big": changed})
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state", store=store)
    assert (tmp_path / "dst/big").read_bytes() == changed
    assert 0 < sender.sent < 1_600_000
    assert report.reused == len(changed) - sender.sent
    assert os.stat(tmp_path / "dst/big").st_mtime_ns == MTIME
    if store is not None:
        store.close()


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_a_file_with_the_same_content_only_gets_the_time(tmp_path, content):
    source = make_tree(tmp_path / "src", {"a": content})
    sync(source, tmp_path / "dst", tmp_path / "state")
    inode = os.stat(tmp_path / "dst/a").st_ino
    os.utime(source / "a", ns=(5, 5))
    os.chmod(source / "a", 0o600)
    sender, report = sync(source, tmp_path / "dst", tmp_path / "state")
    found = os.stat(tmp_path / "dst/a")
    assert (found.st_ino, found.st_mtime_ns) == (inode, 5)
    assert found.st_mode & 0o7777 == 0o600
    assert (sender.sent, report.written, report.reused) == (0, 0, len(content))


def test_a_checksum_finds_what_size_and_time_hide(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"right", "b": LARGE})
    make_tree(tmp_path / "dst", {"a": b"wrong", "b": LARGE[:-1] + b"!"})
    assert sync(source, tmp_path / "dst", tmp_path / "state")[1].written == 0
    _, report = sync(source, tmp_path / "dst", tmp_path / "state", checksum=True)
    assert report.written == 2
    assert contents(tmp_path / "dst") == contents(source)


@pytest.mark.parametrize("content", [b"right", LARGE])
def test_a_checksum_finds_what_was_written_before_the_store_was_told(tmp_path, content):
    source = make_tree(tmp_path / "src", {"a": content})
    dst, state, store = tmp_path / "dst", tmp_path / "state", Store(tmp_path / "store")

    async def run():
        target = LocalTarget(dst, TargetOptions(), state=state, store=store)
        sender = Sender(source, target)
        await sender.begin()
        await sender.send()
        await sender.end()
        make_tree(dst, {"a": content[:-1] + b"!"})
        await target.close()

    asyncio.run(run())
    assert sync(source, dst, state, store=store)[1].written == 0
    _, report = sync(source, dst, state, checksum=True, store=store)
    store.close()
    assert report.written == 1
    assert (dst / "a").read_bytes() == content


class SlowStore(Store):
    """A store that notes nothing until it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go_on = threading.Event()

    def note(self, records: Iterable[Record], *, gives_way: bool = False) -> None:
        self.go_on.wait()
        super().note(records, gives_way=gives_way)


def test_others_have_the_tree_and_its_content_while_the_store_is_told(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"content"})
    dst, state, store = tmp_path / "dst", tmp_path / "state", SlowStore(tmp_path / "st")

    async def run() -> Sender:
        first = LocalTarget(dst, TargetOptions(), state=state, store=store)
        sender = Sender(source, first)
        await sender.begin()
        await sender.send()
        await sender.end()
        await first.close()
        (source / "a").rename(source / "b")
        second = LocalTarget(dst, TargetOptions(), state=state, store=store)
        sender = Sender(source, second)
        await sender.begin()
        await sender.send()
        store.go_on.set()
        await sender.end()
        await second.close()
        return sender

    sender = asyncio.run(run())
    store.close()
    assert (sender.sent, sender.missing) == (0, {b"b": []})


@pytest.mark.parametrize("length", [0, 1_500_000, len(LARGE) - 1])
def test_a_file_that_became_shorter_ends_where_it_should(tmp_path, length):
    source = make_tree(tmp_path / "src", {"a": LARGE})
    sync(source, tmp_path / "dst", tmp_path / "state")
    make_tree(source, {"a": LARGE[:length]})
    sender, _ = sync(source, tmp_path / "dst", tmp_path / "state")
    assert (tmp_path / "dst/a").read_bytes() == LARGE[:length]
    assert sender.sent < 800_000


def test_zeros_take_no_room_and_are_not_sent(tmp_path):
    source = make_tree(tmp_path / "src", {})
    content = LARGE[:500_000] + bytes(20_000_000) + LARGE[:100] + bytes(300_000)
    make_tree(source, {"sparse": content, "empty": bytes(5_000_000)})
    sender, _ = sync(source, tmp_path / "dst", tmp_path / "state")
    assert contents(tmp_path / "dst") == contents(source)
    assert sender.sent < 3_000_000
    blocks = [os.stat(tmp_path / "dst" / one).st_blocks for one in ("sparse", "empty")]
    assert blocks[0] * 512 < 1_000_000
    make_tree(source, {"sparse": b"new" + content})
    sender, _ = sync(source, tmp_path / "dst", tmp_path / "state")
    assert contents(tmp_path / "dst") == contents(source)
    assert sender.sent < 1_600_000
    assert os.stat(tmp_path / "dst/sparse").st_blocks * 512 < 2_000_000
    assert blocks[1] * 512 < 64 * 1024  # what the last piece's end may take


def test_names_that_are_no_text_and_very_long_paths_come_through(tmp_path):
    source = os.fsencode(tmp_path / "src")
    for name in (b"a\nb", b"\xff\xfe", b" ", b"-rf", b"*", b"...", "ä".encode()):
        os.makedirs(source + b"/" + name)
        Path(os.fsdecode(source + b"/" + name + b"/" + name)).write_bytes(name)
    fd = os.open(source, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(b"n" * 220, dir_fd=fd)
        fd, above = os.open(b"n" * 220, os.O_RDONLY, dir_fd=fd), fd
        os.close(above)
    os.close(os.open(b"deep", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        sender = Sender(tmp_path / "src", target)
        await sender.begin()
        await sender.send([n for n, e in enumerate(sender.plan.files) if e.size])
        [deep] = [n for n, e in enumerate(sender.plan.files) if not e.size]
        await target.offer([Offer(deep, 0, ())])
        report = await sender.end()
        await target.close()
        return sender, report

    sender, report = asyncio.run(run())
    assert report.problems == []
    assert max(len(one.path) for one in sender.plan.files) > 5000
    again, _ = sync(tmp_path / "src", tmp_path / "dst", tmp_path / "state")
    assert again.plan.is_empty
    shutil.rmtree(tmp_path / "src")
    sync(make_tree(tmp_path / "no", {}), tmp_path / "dst", tmp_path / "s", delete=True)
    assert os.listdir(tmp_path / "dst") == []


# -- what is deleted or replaced


def test_what_is_deleted_is_kept_in_the_trash(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    make_tree(
        tmp_path / "dst", {"a": b"1", "b": b"2", "sub/deep/c": b"3", "sub/d": b"4"}
    )
    _, report = sync(source, tmp_path / "dst", tmp_path / "state", delete=True)
    assert report.deleted == 5
    assert contents(tmp_path / "dst") == contents(source)
    assert trashed(tmp_path / "state") == {
        "b": b"2",
        "sub/deep/c": b"3",
        "sub/d": b"4",
    }
    [origin] = (tmp_path / "state").glob("trash/*/root")
    assert origin.read_text() == f"{os.path.realpath(tmp_path / 'dst')}\n"


def test_the_trash_is_emptied_after_a_week(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    for name in ("old", "new"):
        make_tree(tmp_path / "dst", {name: name.encode()})
        sync(source, tmp_path / "dst", tmp_path / "state", delete=True)
    [old] = (tmp_path / "state").glob("trash/*/tree/old")
    week = 7 * 24 * 3600
    for days, expected in ((-60, {"old", "new"}), (60, {"new"})):
        then = os.stat(old.parent.parent).st_mtime - week - days
        os.utime(old.parent.parent, (then, then))
        make_tree(source, {"a": os.urandom(8)})
        sync(source, tmp_path / "dst", tmp_path / "state")
        assert trashed(tmp_path / "state").keys() == expected


def test_things_of_one_kind_take_the_place_of_another(tmp_path):
    source = make_tree(tmp_path / "src", {"one": b"file", "two/in": b"2", "four": b""})
    os.symlink("one", source / "three")
    dst = make_tree(tmp_path / "dst", {"one/x": b"folder", "two": b"file"})
    make_tree(dst, {"three/y": b"folder"})
    os.symlink("elsewhere", dst / "four")
    sync(source, dst, tmp_path / "state", delete=True)
    assert contents(dst) == contents(source)
    assert trashed(tmp_path / "state").keys() == {"one/x", "two", "three/y"}


def test_what_was_deleted_or_replaced_need_not_be_sent_again(tmp_path):
    store = Store(tmp_path / "store")
    source = make_tree(tmp_path / "src", {"a": LARGE, "b": LARGE[::-1], "c": b"x"})
    state = tmp_path / "state"
    sync(source, tmp_path / "dst", state, store=store)
    os.rename(source / "a", source / "renamed")
    make_tree(source, {"b": b"other"})
    sender, _ = sync(source, tmp_path / "dst", state, store=store, delete=True)
    assert sender.sent == 5
    os.rename(source / "renamed", source / "a")
    make_tree(source, {"b": LARGE[::-1]})
    sender, _ = sync(source, tmp_path / "dst", state, store=store, delete=True)
    assert sender.sent == 0
    assert contents(tmp_path / "dst") == contents(source)
    store.close()


# -- what may go wrong


def test_nothing_changes_before_the_commit_and_a_close_leaves_nothing(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"new", "sub/b": LARGE, "c/": b""})
    make_tree(tmp_path / "dst", {"a": b"old", "gone": b""})
    before = listing(tmp_path / "dst")

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        sender = Sender(source, target)
        await sender.begin(delete=True)
        await sender.send()
        assert listing(tmp_path / "dst") == before
        await target.close()
        await target.close()

    asyncio.run(run())
    assert listing(tmp_path / "dst") == before
    assert os.listdir(tmp_path / "st/stage") == []


def test_a_scan_alone_makes_nothing(tmp_path):
    async def run():
        target = LocalTarget(tmp_path / "no/dst", TargetOptions(), state=tmp_path / "s")
        found = await target.scan()
        await target.close()
        return found

    assert not asyncio.run(run()).exists
    assert os.listdir(tmp_path) == ["s"]


def test_a_root_that_is_a_file_is_an_error(tmp_path):
    make_tree(tmp_path, {"dst": b""})
    with pytest.raises(NotADirectoryError, match="dst"):
        sync(make_tree(tmp_path / "src", {}), tmp_path / "dst", tmp_path / "state")


def test_a_root_outside_of_what_is_allowed_is_refused(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b""})
    make_tree(tmp_path / "data", {"a/": b"", "ab/": b""})
    for root in ("data/ab", "data/a/../b", "data"):
        with pytest.raises(PermissionError, match="not inside"):
            sync(source, tmp_path / root, tmp_path / "s", allowed=[tmp_path / "data/a"])
    sync(source, tmp_path / "data/a/new", tmp_path / "s", allowed=[tmp_path / "data/a"])
    assert (tmp_path / "data/a/new/a").exists()


def test_files_that_did_not_come_stay_as_they_are(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"new a", "b": b"new b"})
    make_tree(tmp_path / "dst", {"a": b"old", "b": b"old"})

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        sender = Sender(source, target)
        await sender.begin()
        await sender.send([0])
        with pytest.raises(ValueError, match="file 1 has not come"):
            await sender.end()
        await target.drop([1, 7])
        report = await sender.end()
        assert await sender.end() == report
        await target.close()
        return report

    assert asyncio.run(run()).written == 1
    assert (tmp_path / "dst/a").read_bytes() == b"new a"
    assert (tmp_path / "dst/b").read_bytes() == b"old"


def test_folders_and_files_that_are_read_only_are_no_obstacle(open_folder):
    source = make_tree(
        open_folder / "src",
        {"ro/a": b"new", "ro/sub/b": b"new", "ro/more": b"new", "keep/x": b"1"},
    )
    dst = make_tree(
        open_folder / "dst",
        {"ro/a": b"old.", "ro/sub/b": b"old.", "ro/gone/c": b"", "keep/x": b"1"},
    )
    make_tree(dst, {"keep/gone": b""})
    for root in (source, dst):
        for path in sorted(root.rglob("*"), reverse=True):
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
            os.chown(path, NOBODY, NOBODY)
        os.chown(root, NOBODY, NOBODY)
    os.chmod(dst, 0o500)
    with as_nobody():
        _, report = sync(source, dst, open_folder / "state", delete=True)
    assert report.problems == []
    assert {p: f for p, f in contents(dst).items()} == contents(source)
    assert os.stat(dst).st_mode & 0o7777 == 0o500


def test_what_may_not_be_written_is_a_problem_and_the_rest_goes_on(open_folder):
    source = make_tree(open_folder / "src", {"theirs/a": b"new", "b": b"new"})
    dst = make_tree(open_folder / "dst", {"theirs/a": b"older"})
    os.chmod(dst / "theirs", 0o755)
    os.chown(dst, NOBODY, NOBODY)
    with as_nobody():
        _, report = sync(source, dst, open_folder / "state")
        made = make_tree(open_folder / "closed", {})
    assert [one.path for one in report.problems] == [b"theirs/a", b"theirs"]
    assert "denied" in report.problems[0].text
    assert (dst / "theirs/a").read_bytes() == b"older"
    assert (dst / "b").read_bytes() == b"new"
    os.chown(made, 0, 0)
    with as_nobody(), pytest.raises(PermissionError, match="may not write"):
        sync(source, made, open_folder / "state")


def test_a_file_that_was_written_to_since_the_scan_is_not_called_unchanged(tmp_path):
    source = make_tree(tmp_path / "src", {"mode": b"1", "same": b"2"})
    os.chmod(source / "mode", 0o600)
    os.utime(source / "same", ns=(5, 5))
    dst = make_tree(tmp_path / "dst", {"mode": b"1", "same": b"2"})

    async def run():
        target = LocalTarget(dst, TargetOptions(), state=tmp_path / "state")
        sender = Sender(source, target)
        await sender.begin()
        await sender.send()
        (dst / "mode").write_bytes(b"X")
        (dst / "same").write_bytes(b"Y")
        report = await sender.end()
        await target.close()
        return report

    text = "changed in the target meanwhile"
    found = asyncio.run(run()).problems
    assert found == [Problem(b"same", text), Problem(b"mode", text)]
    assert os.stat(dst / "mode").st_mtime_ns != MTIME


def test_the_state_folder_is_no_part_of_a_tree_that_it_is_in(tmp_path):
    source = make_tree(tmp_path / "src", {"a": b"1"})
    kept = {"x/y/state/log": b"1", "home/token": b"secret"}
    dst = make_tree(tmp_path / "dst", {**kept, "x/z": b""})
    for _ in range(2):
        state, own = dst / "x/y/state", [dst / "home"]
        sync(source, dst, state, delete=True, own=own)
    assert all((dst / one).read_bytes() == kept[one] for one in kept)
    assert not (dst / "x/z").exists()


# -- what an attacker says

BAD_PATHS = [b"", b"..", b"../x", b"/etc/x", b"a/../../x", b"a//b", b"a\0"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_hostile_paths_are_refused_before_anything_is_done(tmp_path, path):
    make_tree(tmp_path / "dst", {})
    before = listing(tmp_path)

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        await target.scan()
        for told in (
            {"folders": [Entry(path, FOLDER, 0o755)]},
            {"links": [Entry(path, LINK, target=b"x")]},
            {"touched": [Entry(path, FILE, 0o777)]},
            {"deleted": [path]},
        ):
            with pytest.raises(ValueError, match="not a path inside"):
                await target.prepare(**told)
        with pytest.raises(ValueError, match="not a path inside"):
            await target.expect(0, [Entry(path, FILE, 0o644, 3, 5)])
        await target.commit()
        await target.close()

    asyncio.run(run())
    shutil.rmtree(tmp_path / "st")
    assert listing(tmp_path, times=False) == {
        path: facts[:1] + facts[2:] for path, facts in before.items()
    }


def test_links_that_can_not_be_are_problems_and_the_rest_goes_on(tmp_path):
    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        await target.scan()
        says = {b"empty": b"", b"long": b"x" * 5000, b"nul": b"a\0b", b"good": b"a"}
        links = [Entry(path, LINK, target=text) for path, text in says.items()]
        await target.prepare(links=links)
        report = await target.commit()
        await target.close()
        return report

    assert [one.path for one in asyncio.run(run()).problems] == [
        *(b"empty", b"long", b"nul")
    ]
    assert os.listdir(tmp_path / "dst") == ["good"]


@pytest.mark.parametrize(
    ("code", "there", "problems"),
    [(errno.EOPNOTSUPP, ["link"], []), (errno.EIO, [], [b"link"])],
)
def test_a_link_comes_without_its_time_where_links_have_none(
    tmp_path, monkeypatch, *, code, there, problems
):
    def no_time(*args, **keywords):
        raise OSError(code, os.strerror(code))

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        await target.scan()
        await target.prepare(links=[Entry(b"link", LINK, mtime_ns=5, target=b"a")])
        monkeypatch.setattr(os, "utime", no_time)
        report = await target.commit()
        await target.close()
        return report

    assert [one.path for one in asyncio.run(run()).problems] == problems
    assert os.listdir(tmp_path / "dst") == there


def test_wrong_content_is_refused(tmp_path):
    digest = bytes(32)
    bad = [
        Offer(9, 0, (Chunk(digest, 5),)),  # never heard of
        Offer(0, 0, (Chunk(digest, 4),)),  # too short
        Offer(0, 0, (Chunk(digest, 6),)),  # too long
        Offer(0, 0, (Chunk(digest, 5),), is_last=False),  # and no end
        Offer(0, 1, (Chunk(digest, 4),)),  # a gap
        Offer(0, 0, (Chunk(b"short", 5),)),
        Offer(0, 0, (Chunk(digest, -5), Chunk(digest, 10))),
        Offer(0, 0, (Chunk(digest, 0), Chunk(digest, 5))),
    ]
    pieces = [
        Piece(0, 0, b"12345"),  # not what was offered
        Piece(0, 1, b"1234"),
        Piece(0, 0, b""),
        Piece(0, 0, b"123456"),
        Piece(0, 5, b"1"),
        Piece(0, 0, b"12345", packed=5),
        Piece(1, 0, b"12345"),
    ]

    async def run():
        target = LocalTarget(tmp_path / "dst", TargetOptions(), state=tmp_path / "st")
        await target.scan()
        await target.expect(0, [Entry(b"a", FILE, 0o644, 5, 5)])
        with pytest.raises(ValueError, match="another"):
            await target.expect(0, [Entry(b"a", FILE, 0o644, 6, 5)])
        for offer in bad:
            with pytest.raises(ValueError, match="file"):
                await target.offer([offer])
        good = Offer(0, 0, (Chunk(digest, 5),))
        assert await target.offer([good]) == [[0]]
        assert await target.offer([good]) == [[0]]  # asked again
        for piece in pieces:
            with pytest.raises(ValueError, match="piece|expected"):
                await target.write([piece])
        with pytest.raises(ValueError, match="not come"):
            await target.commit()
        await target.close()

    asyncio.run(run())
    assert not (tmp_path / "dst").exists()
