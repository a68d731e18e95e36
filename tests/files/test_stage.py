"""Files put together from chunks: sent, found here, sent again, or wrong."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mlepool.files.base import Chunk, Offer, Piece
from mlepool.files.chunks import LARGEST, chunk_bytes
from mlepool.files.leftovers import Place
from mlepool.files.packs import pack
from mlepool.files.stage import Stage
from mlepool.files.versions import AHEAD, OldVersion
from mlepool.tree import FILE, FOLDER, Entry
from tests.files.trees import MTIME, pieces_of

LARGE = random.Random(5).randbytes(2_500_000)


class Somewhere:
    """A chunk in a file of its own, which need not hold it (any more)."""

    def __init__(self, path: Path, offset: int, *, is_proven: bool) -> None:
        self._path = path
        self.offset = offset
        self.is_proven = is_proven

    def open(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None


class Bench:
    """A stage in a folder, with what it finds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "stage"
        self.path.mkdir()
        self.places: dict[bytes, Place] = {}
        self._fd = os.open(self.path, os.O_RDONLY)
        self.stage = Stage(self._fd, find=self.find, open_old=self.open_old)

    def find(self, digests: Sequence[bytes]) -> Mapping[bytes, Place]:
        return {one: self.places[one] for one in digests if one in self.places}

    def open_old(self, entry: Entry) -> OldVersion | None:
        path = self.folder / "old"
        return OldVersion(os.open(path, os.O_RDONLY)) if path.exists() else None

    def expect(self, *sizes: int) -> None:
        entries = [Entry(b"x", FILE, 0o640, size, MTIME) for size in sizes]
        self.stage.expect(0, entries)

    def offer(self, data: bytes, number: int = 0) -> list[int]:
        [missing] = self.stage.offer([Offer(number, 0, chunk_bytes(data))])
        return missing

    def content(self, number: int = 0) -> bytes:
        [found] = [one for which, one in self.stage.results() if which == number]
        if found.is_same:
            return (self.folder / "old").read_bytes()
        return (self.path / str(number)).read_bytes()

    def close(self) -> None:
        self.stage.close()
        os.close(self._fd)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def borders(data: bytes) -> list[tuple[int, Chunk]]:
    """Give chunks, and where they begin."""
    found, at = [], 0
    for chunk in chunk_bytes(data):
        found.append((at, chunk))
        at += chunk.length
    return found


def test_a_file_is_whole_with_mode_and_time_when_its_last_piece_is_here(bench):
    bench.expect(len(LARGE))
    assert bench.offer(LARGE) == list(range(len(chunk_bytes(LARGE))))
    pieces = pieces_of(0, 0, b"")
    for at, chunk in reversed(borders(LARGE)):
        pieces += pieces_of(0, at, LARGE[at : at + chunk.length])
    bench.stage.write(pieces[:-1])
    with pytest.raises(ValueError, match="has not come"):
        bench.content()
    bench.stage.write(pieces[-1:])
    assert bench.content() == LARGE
    found = os.stat(bench.path / "0")
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o640, MTIME)


def test_pieces_and_offers_that_come_again_are_fine(bench):
    bench.expect(len(LARGE))
    missing = bench.offer(LARGE)
    for at, chunk in borders(LARGE):
        for piece in pieces_of(0, at, LARGE[at : at + chunk.length]):
            bench.stage.write([piece])
            bench.stage.write([piece])
        missing = missing[1:]
        assert bench.offer(LARGE) == missing
    assert bench.content() == LARGE


def test_pieces_may_be_packed(bench):
    data = b"text " * 10_000
    bench.expect(len(data))
    bench.offer(data)
    packed = pack(data)
    assert packed is not None
    with pytest.raises(ValueError, match="packed piece"):
        bench.stage.write([Piece(0, 0, packed, packed=len(data) + 1)])
    bench.stage.write([Piece(0, 0, packed, packed=len(data))])
    assert bench.content() == data


def test_a_chunk_that_is_wrong_can_be_sent_again_zeros_and_all(bench):
    data = LARGE[:300_000] + bytes(200_000) + LARGE[:300_000]
    bench.expect(len(data))
    bench.offer(data)
    wrong = data[:-1] + b"?"
    parts = borders(data)
    for at, chunk in parts:
        good = data[at : at + chunk.length]
        noise = random.Random(at).randbytes(chunk.length)
        for content in (noise, wrong[at : at + chunk.length]):
            if content != good:
                with pytest.raises(ValueError, match="not what was offered"):
                    bench.stage.write(pieces_of(0, at, content))
        bench.stage.write(pieces_of(0, at, good))
    assert bench.content() == data


def test_pieces_out_of_order_are_refused(bench):
    bench.expect(len(LARGE))
    bench.offer(LARGE)
    first, second, *_ = pieces_of(0, 0, LARGE[: chunk_bytes(LARGE)[0].length])
    for piece in (second, Piece(0, 1, b"x"), Piece(0, len(LARGE), b"x")):
        with pytest.raises(ValueError, match="no such piece"):
            bench.stage.write([piece])
    bench.stage.write([first, second])


def test_a_large_file_may_be_offered_part_by_part(bench):
    bench.expect(len(LARGE))
    chunks, offset = chunk_bytes(LARGE), 0
    for chunk in chunks:
        is_last = offset + chunk.length == len(LARGE)
        offer = Offer(0, offset, (chunk,), is_last=is_last)
        assert bench.stage.offer([offer]) == [[0]]
        part = LARGE[offset : offset + chunk.length]
        bench.stage.write(pieces_of(0, offset, part))
        offset += chunk.length
    assert bench.content() == LARGE


@pytest.mark.parametrize("is_proven", [True, False])
def test_what_is_elsewhere_is_copied(bench, tmp_path, is_proven):
    (tmp_path / "elsewhere").write_bytes(b"...." + LARGE)
    for at, chunk in borders(LARGE):
        place = Somewhere(tmp_path / "elsewhere", 4 + at, is_proven=is_proven)
        bench.places[chunk.digest] = place
    bench.expect(len(LARGE))
    assert bench.offer(LARGE) == []
    assert bench.content() == LARGE
    assert bench.stage.reused == len(LARGE)


def test_what_is_elsewhere_no_more_has_to_be_sent(bench, tmp_path):
    (tmp_path / "other").write_bytes(LARGE[::-1])
    (tmp_path / "short").write_bytes(b"")
    for number, (_, chunk) in enumerate(borders(LARGE)):
        path = tmp_path / ("other", "short", "gone")[number % 3]
        bench.places[chunk.digest] = Somewhere(path, 0, is_proven=False)
    bench.expect(len(LARGE))
    assert len(bench.offer(LARGE)) == len(chunk_bytes(LARGE))
    assert bench.stage.reused == 0


def test_a_failure_in_the_midst_leaves_nothing_out(bench, tmp_path):
    class Full(Somewhere):
        def open(self) -> int | None:
            raise OSError(28, "No space left on device")

    chunks = chunk_bytes(LARGE)
    bench.places[chunks[3].digest] = Full(tmp_path, 0, is_proven=True)
    bench.expect(len(LARGE))
    with pytest.raises(OSError, match="No space"):
        bench.offer(LARGE)
    assert bench.offer(LARGE) == list(range(len(chunks)))
    with pytest.raises(ValueError, match="has not come"):
        bench.content()


@pytest.mark.parametrize("is_proven", [True, False])
def test_what_can_not_be_read_elsewhere_has_to_be_sent(bench, tmp_path, is_proven):
    data = LARGE[:400_000] + bytes(300_000) + LARGE[:100_000]
    for _, chunk in borders(data):
        bench.places[chunk.digest] = Somewhere(tmp_path, 0, is_proven=is_proven)
    bench.expect(len(data))
    assert len(bench.offer(data)) == len(chunk_bytes(data))
    for at, chunk in borders(data):
        bench.stage.write(pieces_of(0, at, data[at : at + chunk.length]))
    assert bench.content() == data


def test_what_came_for_one_file_serves_another(bench):
    bench.expect(len(LARGE), len(LARGE) + 5)
    bench.offer(LARGE)
    for at, chunk in borders(LARGE):
        bench.stage.write(pieces_of(0, at, LARGE[at : at + chunk.length]))
    missing = bench.offer(LARGE + b"12345", number=1)
    assert len(missing) == 1


def test_what_came_for_a_file_that_was_dropped_has_to_be_sent(bench):
    bench.expect(len(LARGE), len(LARGE))
    bench.offer(LARGE)
    for at, chunk in borders(LARGE):
        bench.stage.write(pieces_of(0, at, LARGE[at : at + chunk.length]))
    bench.stage.drop([0, 0, 99])
    assert len(bench.offer(LARGE, number=1)) == len(chunk_bytes(LARGE))
    assert os.listdir(bench.path) == ["chunks"]


def test_a_version_in_the_tree_that_changes_meanwhile_is_noticed(bench, tmp_path):
    old = LARGE[:-1] + b"?"
    (tmp_path / "old").write_bytes(old)
    bench.expect(len(LARGE))
    chunks = chunk_bytes(LARGE)
    first, rest = chunks[:2], chunks[2:]
    length = sum(one.length for one in first)
    bench.stage.offer([Offer(0, 0, first, is_last=False)])
    (tmp_path / "old").write_bytes(bytes(len(old)))
    [missing] = bench.stage.offer([Offer(0, length, rest)])
    at = length
    for index, chunk in enumerate(rest):
        if index in missing:
            bench.stage.write(pieces_of(0, at, LARGE[at : at + chunk.length]))
        at += chunk.length
    [(_, file)] = bench.stage.results()
    assert "changed" in file.problem


def test_only_files_are_expected(bench):
    for entry in (Entry(b"x", FOLDER, 0o755), Entry(b"x", FILE, 0o644, -1)):
        with pytest.raises(ValueError, match="not a file"):
            bench.stage.expect(0, [entry])
    with pytest.raises(ValueError, match="not a file"):
        bench.stage.expect(-1, [Entry(b"x", FILE, 0o644, 1)])


def test_it_is_looked_far_ahead_but_not_for_ever_in_an_old_version():
    assert AHEAD >= 64 * LARGEST


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "change", "zeros", "swap"]),
        st.integers(0, 1_500_000),
        st.integers(1, 200_000),
    ),
    max_size=3,
)


def edited(data: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    for kind, at, length in edits:
        head, tail = data[:at], data[at:]
        if kind == "insert":
            data = head + random.Random(length).randbytes(length) + tail
        elif kind == "delete":
            data = head + tail[length:]
        elif kind == "zeros":
            data = head + bytes(10 * length) + tail
        elif kind == "swap":
            data = tail + head
        else:
            data = head + random.Random(at).randbytes(length) + tail[length:]
    return data


@settings(max_examples=25, deadline=None)
@given(edits=EDITS, part=st.integers(1, 9), keeps_old=st.booleans())
def test_any_edit_gives_the_new_content(tmp_path_factory, *, edits, part, keeps_old):
    folder = tmp_path_factory.mktemp("edit")
    old = LARGE[:1_500_000]
    data = edited(old, edits)
    if keeps_old:
        (folder / "old").write_bytes(old)
    bench = Bench(folder)
    bench.expect(len(data))
    found = borders(data)
    for begin in range(0, max(1, len(found)), part):
        some = found[begin : begin + part]
        chunks = tuple(chunk for _, chunk in some)
        offset = some[0][0] if some else 0
        is_last = begin + part >= len(found)
        [missing] = bench.stage.offer([Offer(0, offset, chunks, is_last=is_last)])
        for index in missing:
            at, chunk = some[index]
            bench.stage.write(pieces_of(0, at, data[at : at + chunk.length]))
    assert bench.content() == data
    bench.close()


def test_what_comes_unasked_is_hashed_and_not_looked_for(bench):
    data = b"so it goes"
    offer = Offer(0, 0, chunk_bytes(data))
    bench.places = {offer.chunks[0].digest: Somewhere(bench.path, 0, is_proven=True)}
    bench.expect(len(data))
    with pytest.raises(ValueError, match="not what was offered"):
        bench.stage.write([Piece(0, 0, b"so it went")], offers=[offer])
    for _ in range(2):  # again is fine
        bench.stage.write([Piece(0, 0, data)], offers=[offer])
    assert bench.content() == data
    assert bench.stage.reused == 0


def test_what_comes_unasked_may_be_what_is_there(bench):
    (bench.folder / "old").write_bytes(b"the same")
    bench.expect(8)
    offer = Offer(0, 0, chunk_bytes(b"the same"))
    bench.stage.write([Piece(0, 0, b"the same")], offers=[offer])
    assert bench.content() == b"the same"


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("data", [b"a" * 5000, bytes(65_536)])
def test_what_comes_unasked_may_be_packed_or_sparse(bench, data, is_packed):
    bench.expect(len(data))
    packed = pack(data) if is_packed else None
    piece = Piece(0, 0, packed or data, len(data) if packed else 0)
    bench.stage.write([piece], offers=[Offer(0, 0, chunk_bytes(data))])
    assert bench.content() == data
    found = (bench.path / "0").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o640, MTIME)


@pytest.mark.parametrize(
    "piece", [Piece(0, 1, b"right"), Piece(0, 0, b"wrong"), Piece(0, 0, b"right!")]
)
def test_what_comes_unasked_must_be_what_was_said(bench, piece):
    bench.expect(5)
    offer = Offer(0, 0, chunk_bytes(b"right"))
    with pytest.raises(ValueError, match="file 0"):
        bench.stage.write([piece], offers=[offer])
    with pytest.raises(ValueError, match="expected"):
        bench.stage.write([Piece(1, 0, b"right")], offers=[Offer(1, 0, offer.chunks)])
