"""Hostile names, links and numbers, said to a real worker over the raw protocol."""

import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest
import zstandard

import mlepool
from mlepool.files.base import Chunk, Offer, Piece, SourceOptions, TargetOptions
from mlepool.tree import FILE, FOLDER, LINK, Entry
from mlepool.wire.codec import encode
from mlepool.wire.messages import Ended, Outcome, Request
from tests.conftest import RunningWorker
from tests.raw import RawClient, raw_client

pytestmark = pytest.mark.real

SECRET = b"what nobody may read from outside"
EVIL = b"evil"
WHEN = 10**18  # nanoseconds since the epoch

BAD_PATHS = [
    *(b"", b".", b"..", b"/", b"//", b"a//b", b"a/", b"./a", b"a/./b", b"a/..", b"\0"),
    *(
        b"../outside/evil",
        b"a/../../outside/evil",
        b"/outside/evil",
        b"a\0b",
        b"x/../y",
    ),
    *(b"..\0", b"../tree-2/evil", b"a/" * 3000 + b"..", b"a" * 300),
]


class Hostile:
    """A client that says what it likes of one worker's trees."""

    def __init__(self, client: RawClient, base: Path) -> None:
        self.client = client
        self.base = base
        self.outside = base / "outside"
        self.tree = base / "allowed" / "tree"
        self.heard: list[Outcome] = []
        self.calls = itertools.count(1)

    def ask(self, command: str, **arguments: Any) -> Outcome:
        """Make a request, and take its answer; it may well be an error."""
        call = next(self.calls)
        self.client.send(Request(call, secrets.token_hex(8), command, arguments))
        ended = self.client.wait_for(Ended)
        assert ended.call == call
        self.heard.append(ended.outcome)
        return ended.outcome

    def open(self, root: str | bytes | Path | None = None) -> "Session":
        return Session(self, os.fsencode(root if root is not None else self.tree))

    def put(self, path: bytes, root: str | bytes | Path | None = None) -> None:
        """Go all the way to write a file."""
        session = self.open(root)
        session.file(path)
        session.end()


class Session:
    """One try to write a tree."""

    def __init__(self, hostile: Hostile, root: bytes) -> None:
        self._ask = hostile.ask
        self.id = secrets.token_hex(8)
        self.steps = itertools.count()
        self._ask(
            "_tree_open_target", session=self.id, root=root, options=TargetOptions()
        )
        self.say("_tree_scan")

    def say(self, command: str, **arguments: Any) -> Outcome:
        return self._ask(command, session=self.id, step=next(self.steps), **arguments)

    def prepare(self, **lists: list[Any]) -> Outcome:
        none: dict[str, list[Any]]
        none = {"folders": [], "links": [], "touched": [], "deleted": []}
        return self.say("_tree_prepare", **{**none, **lists})

    def file(self, path: bytes, data: bytes = EVIL, number: int = 0) -> None:
        chunk = Chunk(blake3.blake3(data).digest(), len(data))
        entry = Entry(path, FILE, 0o6777, len(data), WHEN)
        self.say("_tree_reserve", size=len(data), count=1)
        self.say("_tree_expect", first=number, entries=[entry])
        self.say("_tree_offer", offers=[Offer(number, 0, (chunk,))])
        self.say("_tree_write", pieces=[Piece(number, 0, data)])

    def end(self) -> None:
        self._ask("_tree_commit", session=self.id)
        self._ask("_tree_close", session=self.id, is_success=True)


def link(path: bytes, target: str | bytes | Path) -> Entry:
    return Entry(path, LINK, 0, 0, WHEN, os.fsencode(target))


def folder(path: bytes) -> Entry:
    return Entry(path, FOLDER, 0o777, 0, WHEN)


def touched(path: bytes) -> Entry:
    return Entry(path, FILE, 0o777, len(SECRET), WHEN)


# -- what is tried


def other_roots(hostile: Hostile) -> None:
    base, allowed = hostile.base, hostile.base / "allowed"
    for root in (
        *(hostile.outside, base, "/", "", ".", "..", "~", "\0", b"\xff", "relative"),
        *(base / "allowed-not", base / "allowed2", allowed / ".." / "outside"),
        *(allowed / "out", allowed / "out" / "new", f"{allowed}/../allowed-not"),
        *(allowed / "tree" / "out", hostile.outside / "victim", allowed / "in" / "x"),
    ):
        hostile.put(b"evil", root)
        session = hostile.open(root)
        session.prepare(folders=[folder(b"evil")], deleted=[b"victim", b"folder"])
        session.end()


def bad_paths_of_files(hostile: Hostile) -> None:
    for path in BAD_PATHS:
        hostile.put(path)


def bad_paths_of_others(hostile: Hostile) -> None:
    for path in BAD_PATHS:
        session = hostile.open()
        session.prepare(folders=[folder(path)])
        session.prepare(links=[link(path, hostile.outside)])
        session.prepare(touched=[touched(path)])
        session.prepare(deleted=[path])
        session.end()


def through_a_link_of_the_same_sync(hostile: Hostile) -> None:
    session = hostile.open()
    session.prepare(links=[link(b"way", hostile.outside)])
    session.prepare(folders=[folder(b"way"), folder(b"way/evil"), folder(b"out/evil")])
    session.prepare(touched=[touched(b"way/victim"), touched(b"out/victim")])
    session.prepare(deleted=[b"way/victim", b"out/victim", b"out/folder"])
    session.file(b"way/evil")
    session.end()


def through_a_link_of_an_earlier_sync(hostile: Hostile) -> None:
    session = hostile.open()
    session.prepare(links=[link(b"way", hostile.outside), link(b"up", b"../..")])
    session.prepare(links=[link(b"victim", hostile.outside / "victim")])
    session.end()
    hostile.put(b"way/evil")
    hostile.put(b"up/outside/evil")
    session = hostile.open()
    session.prepare(folders=[folder(b"way/evil"), folder(b"up/evil")])
    session.prepare(links=[link(b"way/evil2", b"x"), link(b"up/evil2", b"x")])
    session.prepare(touched=[touched(b"victim"), touched(b"way/victim")])
    session.prepare(deleted=[b"way/victim", b"way/folder", b"up/outside"])
    session.end()


def what_a_link_leads_to_is_not_changed(hostile: Hostile) -> None:
    session = hostile.open()
    session.prepare(folders=[folder(b"out")], touched=[touched(b"out-file")])
    session.end()
    hostile.put(b"out-file")
    session = hostile.open()
    session.prepare(deleted=[b"out", b"out-file"])
    session.end()


def wrong_numbers(hostile: Hostile) -> None:
    session = hostile.open()
    session.file(b"good")
    chunk = Chunk(blake3.blake3(EVIL).digest(), 4)
    for first in (-1, 1 << 31, 1 << 62):
        entry = Entry(b"far", FILE, 0o644, 4, WHEN)
        session.say("_tree_expect", first=first, entries=[entry])
    for size, mode in ((-1, 0o644), (1 << 62, 0o644), (4, -1), (4, 1 << 40)):
        entry = Entry(b"odd", FILE, mode, size, WHEN)
        session.say("_tree_expect", first=1, entries=[entry])
        session.say("_tree_reserve", size=size, count=1)
    for number, offset, chunks in (
        *((7, 0, (chunk,)), (-1, 0, (chunk,)), (0, -4, (chunk,)), (0, 9, (chunk,))),
        *((0, 0, (Chunk(b"short", 4),)), (0, 0, (Chunk(bytes(32), -4),))),
        *((0, 0, (Chunk(bytes(32), 1 << 60),)), (0, 0, (chunk,) * 1000)),
    ):
        session.say("_tree_offer", offers=[Offer(number, offset, chunks)])
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    for piece in (
        *(Piece(0, -1, EVIL), Piece(0, 1 << 62, EVIL), Piece(9, 0, EVIL)),
        *(Piece(0, 0, b"EVIL"), Piece(0, 0, b""), Piece(0, 0, bytes(900_000))),
        *(Piece(0, 0, bomb, 4), Piece(0, 0, bomb, 1 << 24), Piece(0, 0, b"?", 4)),
        *(Piece(0, 0, bomb, 1 << 60), Piece(0, 0, EVIL, -1)),
    ):
        session.say("_tree_write", pieces=[piece])
    session.say("_tree_drop", numbers=[-1, 5, 1 << 62])
    session.end()


def reading_from_outside(hostile: Hostile) -> None:
    entry = Entry(b"victim", FILE, 0o644, len(SECRET), WHEN)
    roots = [hostile.outside, hostile.base / "allowed" / "out", hostile.base]
    paths = [b"out/victim", b"../../outside/victim", b"out-file", b"way/victim"]
    for root, path in [
        *((root, b"victim") for root in roots),
        *((hostile.tree, path) for path in [*paths, *BAD_PATHS]),
    ]:
        session, one = secrets.token_hex(8), Entry(path, *tuple(entry_rest(entry)))
        options = SourceOptions()
        hostile.ask(
            "_tree_open_source",
            session=session,
            root=os.fsencode(root),
            options=options,
        )
        hostile.ask("_tree_scan", session=session, step=0)
        asked: dict[str, Any] = {"session": session, "entry": one, "number": 0}
        hostile.ask("_tree_describe", **asked, offset=0)
        hostile.ask("_tree_read", **asked, ranges=[(0, len(SECRET))])
        for command in ("_tree_describe_many", "_tree_read_many"):
            hostile.ask(command, session=session, entries=[(0, one)])
        hostile.ask("_tree_close", session=session, is_success=False)


def reading_by_a_root_that_became_a_link(hostile: Hostile) -> None:
    reading = {"session": secrets.token_hex(8)}
    root = os.fsencode(hostile.tree / "a")
    hostile.ask("_tree_open_source", **reading, root=root, options=SourceOptions())
    session = hostile.open()
    session.prepare(deleted=[b"a"], links=[link(b"a", hostile.outside)])
    session.end()
    assert os.readlink(hostile.tree / "a") == str(hostile.outside)
    seen = hostile.ask("_tree_scan", **reading, step=0)
    assert seen.status == "FAILED"
    entry = Entry(b"victim", FILE, *tuple(entry_rest(touched(b"victim")))[1:])
    hostile.ask("_tree_read_many", **reading, entries=[(0, entry)])


def entry_rest(entry: Entry) -> Iterator[Any]:
    yield from (entry.kind, entry.mode, entry.size, entry.mtime_ns)


def sessions_of_others_and_of_nobody(hostile: Hostile) -> None:
    for session in ("", "0" * 16, "../../outside", "x" * 100_000, "\0" * 16):
        for command in ("_tree_scan", "_tree_commit"):
            keywords = {"step": 0} if command == "_tree_scan" else {}
            hostile.ask(command, session=session, **keywords)
        hostile.ask("_tree_page", session=session, number=1 << 40)


ATTACKS: list[Callable[[Hostile], None]] = [
    other_roots,
    bad_paths_of_files,
    bad_paths_of_others,
    through_a_link_of_the_same_sync,
    through_a_link_of_an_earlier_sync,
    what_a_link_leads_to_is_not_changed,
    wrong_numbers,
    reading_from_outside,
    reading_by_a_root_that_became_a_link,
    sessions_of_others_and_of_nobody,
]


def listing(base: Path) -> dict[str, tuple[Any, ...]]:
    """List all that is around the allowed root: kinds, modes, times, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(base.rglob("*")):
        if path.is_relative_to(base / "allowed") or path.is_relative_to(base / "own"):
            continue
        info = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path)] = (info.st_mode, info.st_mtime_ns, info.st_ino, data)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An allowed root, with ways out of it, and what is around it."""
    for name in ("outside/folder", "allowed/tree/a", "allowed/in", "allowed-not"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside" / "victim").write_bytes(SECRET)
    (tmp_path / "outside" / "folder" / "file").write_bytes(SECRET)
    (tmp_path / "allowed-not" / "victim").write_bytes(SECRET)
    (tmp_path / "allowed" / "out").symlink_to(tmp_path / "outside")
    tree = tmp_path / "allowed" / "tree"
    (tree / "out").symlink_to("../../outside")
    (tree / "out-file").symlink_to("../../outside/victim")
    return tmp_path


@pytest.fixture
def fenced(base) -> Iterator[RunningWorker]:
    """A worker that may sync in one root only."""
    state = base / "own" / "state"
    state.mkdir(parents=True)
    state.chmod(0o700)
    (state / "config.toml").write_text(f'roots = ["{base / "allowed"}"]\n')
    running = RunningWorker(base / "own")
    yield running
    running.end()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_nothing_outside_of_the_roots_is_touched(fenced, base, attack):
    before = listing(base)
    with raw_client(fenced) as client:
        hostile = Hostile(client, base)
        attack(hostile)
        assert hostile.ask("get_time").status == "SUCCEEDED"
        hostile.put(b"fine")
    assert listing(base) == before
    assert (base / "allowed" / "tree" / "fine").read_bytes() == EVIL
    assert not any(SECRET in encode(Ended(1, one)) for one in hostile.heard)
    assert "Traceback" not in fenced.log


def test_keys_and_tokens_are_left_out_of_a_tree_that_holds_them(
    start_worker, tmp_path, monkeypatch
):
    home = tmp_path / "home"
    monkeypatch.setenv("MLEPOOL_HOME", str(home / "account"))
    worker = start_worker("home")
    (home / "file").write_text("mine")
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", worker.port, raise_error=True)
        conn.connect()
        conn.sync(home, tmp_path / "pushed")
        conn.sync(home, tmp_path / "pulled", pull=True)
        conn.sync(home, tmp_path / "pushed", delete=True, force=True)
    secrets = {one.read_bytes() for one in home.rglob("token")}
    assert secrets
    for name in ("pushed", "pulled"):
        assert (tmp_path / name / "file").read_text() == "mine"
        found = [one for one in (tmp_path / name).rglob("*") if one.is_file()]
        assert not any(one.read_bytes() in secrets for one in found)
        assert not any("PRIVATE KEY" in one.read_text("latin-1") for one in found)
    assert worker.token()
