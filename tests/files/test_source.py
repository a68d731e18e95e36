"""The end that is read, on real trees that change under its hands."""

import asyncio
import contextlib
import itertools
import os
import random
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from blake3 import blake3

from mlepool.files.base import Chunk, Offer, Piece, Problem, Source, SourceOptions
from mlepool.files.chunks import chunk_bytes, content_digest
from mlepool.files.packs import unpack
from mlepool.files.pieces import BARE_PIECE, PIECE
from mlepool.files.proofs import file_clock
from mlepool.files.reading import CHANGED, PART, VANISHED, TreeReader
from mlepool.files.source import LocalSource
from mlepool.files.store import Store
from mlepool.tree import FILE, Entry, tree_digest

MIB = 1024 * 1024


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def reader(tree):
    reader = TreeReader(os.fsencode(tree), SourceOptions())
    yield reader
    reader.close()


def write(path: Path, content: bytes) -> Entry:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return entry_of(path)


def entry_of(path: Path, name: bytes | None = None) -> Entry:
    stat = path.lstat()
    name = name or os.fsencode(path.name)
    return Entry(name, FILE, stat.st_mode & 0o7777, stat.st_size, stat.st_mtime_ns)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def described(reader: TreeReader, entry: Entry) -> Offer:
    """Describe a file part by part, as one offer."""
    chunks: tuple[Chunk, ...] = ()
    offset = 0
    while True:
        offer = reader.describe(entry, 5, offset=offset)
        assert isinstance(offer, Offer)
        assert (offer.number, offer.offset) == (5, offset)
        chunks += offer.chunks
        offset += sum(one.length for one in offer.chunks)
        if offer.is_last:
            return Offer(5, 0, chunks)


def joined(pieces: Iterable[Piece | Problem] | Problem, most: int = PIECE) -> bytes:
    """Put pieces together that follow each other."""
    assert not isinstance(pieces, Problem)
    content = b""
    for piece in pieces:
        assert isinstance(piece, Piece)
        assert len(piece.data) <= most
        data = unpack(piece.data, piece.packed) if piece.packed else piece.data
        assert len(data) <= most
        content += data
    return content


def is_packed(pieces: list[Piece | Problem] | list[Piece] | Problem) -> bool:
    assert isinstance(pieces, list)
    (answer,) = {isinstance(one, Piece) and one.packed > 0 for one in pieces}
    return answer


def bytes_read() -> int:
    """Give the bytes that this process has had from read(2) and its kin."""
    return int(Path("/proc/self/io").read_text().split()[1])


def wait_for_the_next_tick(path: Path) -> None:
    """Wait until the clock of files has gone on since a file was changed."""
    changed = path.lstat().st_ctime_ns
    while file_clock() <= changed:
        pass  # some milliseconds


# -- files that stay as they are


@pytest.mark.parametrize("size", [0, 1, 70_000, PIECE, 3 * MIB, PART, 2 * PART + 5])
def test_a_file_is_described_by_its_chunks_part_by_part(reader, tree, size):
    content = noise(size)
    entry = write(tree / "file", content)
    first = reader.describe(entry, 1)
    assert isinstance(first, Offer)
    assert first.is_last == (size <= PART)
    assert described(reader, entry).chunks == chunk_bytes(content)


@pytest.mark.parametrize(("pack", "most"), [(True, PIECE), (False, BARE_PIECE)])
def test_ranges_are_read_in_pieces(reader, tree, *, pack, most):
    content = noise(3 * MIB)
    entry = write(tree / "file", content)
    ranges = [(0, 10), (500_000, 2 * most + 1), (len(content) - 1, 1), (7, 0)]
    pieces = reader.read(entry, 7, ranges=ranges, pack=pack)
    assert isinstance(pieces, list)
    expected = b"".join(content[at : at + size] for at, size in ranges)
    assert joined(pieces, most) == expected
    assert [piece.number for piece in pieces] == [7] * 5
    assert [piece.offset for piece in pieces[:3]] == [0, 500_000, 500_000 + most]


@pytest.mark.parametrize("ranges", [[(-1, 5)], [(0, 11)], [(5, -1)], [(11, 0)]])
def test_ranges_that_are_not_within_the_file_are_refused(reader, tree, ranges):
    entry = write(tree / "file", b"0123456789")
    with pytest.raises(ValueError, match="not within a file of 10 bytes"):
        reader.read(entry, 0, ranges=ranges)


def test_small_files_are_described_and_read_many_at_a_time(reader, tree):
    contents = [noise(size, size) for size in (0, 1, 4096, 65_536, 65_537, PIECE)]
    entries = [(n, write(tree / str(n), data)) for n, data in enumerate(contents, 3)]
    offers = reader.describe_many(entries)
    assert offers == [
        Offer(n, 0, chunk_bytes(data)) for n, data in enumerate(contents, 3)
    ]
    pieces = reader.read_many(entries)
    numbers = [one.number for one in pieces if isinstance(one, Piece)]
    assert numbers == [3, 4, 5, 6, 7, 8]
    assert [joined([one]) for one in pieces] == contents


def test_new_files_are_described_and_read_in_one_go(reader, tree):
    contents = [noise(size, size) for size in (1, 4096, 65_536)]
    entries = [(n, write(tree / str(n), data)) for n, data in enumerate(contents)]
    write(tree / "1", b"changed")
    first, changed, last = reader.read_new(entries)
    assert first == (Offer(0, 0, chunk_bytes(contents[0])), Piece(0, 0, contents[0]))
    assert changed == Problem(b"1", CHANGED)
    assert last == (Offer(2, 0, chunk_bytes(contents[2])), Piece(2, 0, contents[2]))


def test_describing_many_does_large_files_too_but_they_are_not_one_piece(reader, tree):
    content = noise(PART + MIB)
    entry = write(tree / "large", content)
    (offer,) = reader.describe_many([(0, entry)])
    assert offer == Offer(0, 0, chunk_bytes(content))
    with pytest.raises(ValueError, match="more than"):
        reader.read_many([(0, entry)])


def test_small_files_that_were_described_are_not_read_again(reader, tree):
    entries = [(n, write(tree / str(n), noise(10_000, n))) for n in range(50)]
    reader.describe_many(entries)
    before = bytes_read()
    pieces = reader.read_many(entries)
    assert bytes_read() - before < 10_000  # but for what pytest reads
    assert joined(pieces) == b"".join(noise(10_000, n) for n in range(50))
    assert joined(reader.read_many(entries)) == joined(pieces)  # read again: let go


def test_what_shrinks_is_packed_unless_it_is_not_wanted(tree):
    text, random_bytes = b"so it goes\n" * 100_000, noise(MIB)
    entries = [write(tree / "text", text), write(tree / "noise", random_bytes)]
    small = write(tree / "small", text[:1000])
    reader = TreeReader(os.fsencode(tree), SourceOptions())
    for pack in (True, False):
        whole = [
            reader.read(one, 0, ranges=[(0, one.size)], pack=pack) for one in entries
        ]
        most = PIECE if pack else BARE_PIECE
        assert [joined(pieces, most) for pieces in whole] == [text, random_bytes]
        assert [is_packed(pieces) for pieces in whole] == [pack, False]
        of_small = reader.read_many([(0, small)], pack=pack)
        assert joined(of_small) == text[:1000]
        assert is_packed(of_small) == pack
    reader.close()


def test_a_tree_is_listed_without_what_is_ignored(tree):
    write(tree / "a", b"a")
    write(tree / "b.pyc", b"b")
    reader = TreeReader(os.fsencode(tree), SourceOptions(exclude=("*.pyc",)))
    assert [one.path for one in reader.scan().entries] == [b"a"]
    write(tree / "c", b"c")
    assert [one.path for one in reader.scan().entries] == [b"a", b"c"]
    reader.close()


def test_a_tree_that_is_not_there_or_no_folder_is_an_error(tmp_path):
    write(tmp_path / "file", b"")
    for name, error in (("no", FileNotFoundError), ("file", NotADirectoryError)):
        reader = TreeReader(os.fsencode(tmp_path / name), SourceOptions())
        with pytest.raises(error):
            reader.scan()
        reader.close()


def test_a_tree_may_be_reached_by_a_link_but_nothing_in_it(reader, tree, tmp_path):
    outside = write(tmp_path / "outside" / "file", b"secret")
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "file").symlink_to(tmp_path / "outside" / "file")
    deep = entry_of(tmp_path / "outside" / "file", b"link/file")
    for entry in (deep, outside):
        assert isinstance(reader.describe(entry, 0), Problem)
        assert isinstance(reader.read(entry, 0, ranges=[(0, 6)]), Problem)
        assert isinstance(reader.describe_many([(0, entry)])[0], Problem)
    (tmp_path / "way").symlink_to(tmp_path / "outside")
    other = TreeReader(os.fsencode(tmp_path / "way"), SourceOptions())
    assert isinstance(other.describe(outside, 0), Offer)
    other.close()


@pytest.mark.parametrize("path", [b"../x", b"/etc/passwd", b"", b"a/../b", b"a\0"])
def test_hostile_paths_are_refused(reader, path):
    with pytest.raises(ValueError, match="not a path inside a tree"):
        reader.describe(Entry(path, FILE, 0o644, 5, 5), 0)


# -- files that don't


def problem_of(answer) -> str:
    assert isinstance(answer, Problem)
    assert answer.path == b"file"
    return answer.text


def ask_all(reader: TreeReader, entry: Entry) -> set[str]:
    """Ask for a file in every way; gives the texts of the problems."""
    answers = [
        reader.describe(entry, 0),
        reader.read(entry, 0, ranges=[(0, entry.size)]),
        *reader.describe_many([(0, entry)]),
        *reader.read_many([(0, entry)]),
    ]
    return {problem_of(one) for one in answers}


def remove(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    "change", [remove, grow, touch, make_folder, make_pipe, make_link]
)
def test_a_file_that_is_not_as_it_was_seen_is_a_problem(reader, tree, change):
    entry = write(tree / "file", b"content")
    change(tree / "file")
    assert ask_all(reader, entry) == {VANISHED if change is remove else CHANGED}


def test_a_file_whose_folder_vanished_is_a_problem(reader, tree):
    write(tree / "sub" / "file", b"content")
    entry = entry_of(tree / "sub" / "file", b"sub/file")
    (tree / "sub" / "file").unlink()
    (tree / "sub").rmdir()
    assert reader.describe(entry, 0) == Problem(b"sub/file", VANISHED)
    write(tree / "sub", b"a file where a folder was")
    assert reader.describe(entry, 0) == Problem(b"sub/file", VANISHED)


def test_a_file_that_can_not_be_read_is_a_problem(reader, tree):
    entry = write(tree / "file", b"content")
    os.chmod(tree / "file", 0)
    with as_nobody(tree):
        assert ask_all(reader, entry) == {"Permission denied"}


@contextlib.contextmanager
def as_nobody(tree: Path):
    """Read as an account that owns nothing."""
    if os.geteuid() == 0:
        for folder in (tree, *tree.parents):
            if Path(tempfile.gettempdir()) in folder.parents:
                os.chmod(folder, 0o755)
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_a_change_with_the_old_mtime_put_back_is_seen_between_two_parts(reader, tree):
    path = tree / "file"
    entry = write(path, noise(PART + MIB))
    offer = reader.describe(entry, 0)
    assert isinstance(offer, Offer)
    end = sum(one.length for one in offer.chunks)
    with path.open("r+b") as file:
        file.write(b"!")
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    assert entry_of(path) == entry
    assert problem_of(reader.describe(entry, 0, offset=end)) == CHANGED
    assert problem_of(reader.read(entry, 0, ranges=[(0, 10)])) == CHANGED
    assert described(reader, entry).chunks == chunk_bytes(path.read_bytes())


def test_a_part_of_a_file_of_which_nothing_is_known_is_a_problem(reader, tree):
    entry = write(tree / "file", noise(PART + MIB))
    assert problem_of(reader.describe(entry, 0, offset=MIB)) == CHANGED
    reader.describe(entry, 0)
    with pytest.raises(ValueError, match="no chunk begins at 5"):
        reader.describe(entry, 0, offset=5)


def test_a_file_written_to_all_the_time_comes_as_it_was_at_some_moment(tree):
    path, block = tree / "file", 256 * 1024
    whole = {n: bytes([n]) * (8 * block) for n in range(1, 4)}
    moments = {
        content_digest(chunk_bytes(new[: n * block] + old[n * block :]))
        for old, new in (
            (whole[1], whole[2]),
            (whole[2], whole[3]),
            (whole[3], whole[1]),
        )
        for n in range(9)
    }
    write(path, whole[3])
    stop = threading.Event()

    def rewrite() -> None:
        with path.open("r+b", buffering=0) as file:
            for number in itertools.cycle((1, 2, 3)):
                for at in range(0, 8 * block, block):
                    os.pwrite(file.fileno(), whole[number][:block], at)
                if stop.wait(0.01):  # seconds; a version may stay for a moment
                    return

    writer = threading.Thread(target=rewrite)
    writer.start()
    reader = TreeReader(os.fsencode(tree), SourceOptions())
    answers = [reader.describe(entry_of(path), 0) for _ in range(60)]
    stop.set()
    writer.join()
    reader.close()
    offers = [one for one in answers if isinstance(one, Offer)]
    assert {content_digest(one.chunks) for one in offers} <= moments


# -- with a store


def open_reader(tree: Path, store: Store, **options) -> TreeReader:
    return TreeReader(os.fsencode(tree), SourceOptions(), store=store, **options)


def test_what_was_described_is_known_to_the_next_sync_and_not_read(tree, store):
    contents = {"a": noise(1000), "large": noise(2 * PART), "empty": b""}
    entries = [write(tree / name, data) for name, data in contents.items()]
    wait_for_the_next_tick(tree / "empty")
    first = open_reader(tree, store)
    offers = [described(first, one) for one in entries]
    digests: dict[bytes, bytes] = {}
    name = first.name(entries, [], digests)
    first.close()
    assert [*digests.values()] == [
        content_digest(chunk_bytes(one)) for one in contents.values()
    ]
    assert name == (tree_digest(entries, digests), [])
    second = open_reader(tree, store)
    before = bytes_read()
    assert described(second, entries[1]) == offers[1]
    assert second.name(entries, [], {}) == name
    assert bytes_read() - before < MIB  # the index, and what pytest reads
    second.close()
    location = store.find([offers[0].chunks[0].digest])[offers[0].chunks[0].digest]
    assert location.path == os.fsencode(tree / "a")


def test_what_was_changed_is_read_again(tree, store):
    path = tree / "file"
    entry = write(path, noise(MIB, 1))
    wait_for_the_next_tick(path)
    first = open_reader(tree, store)
    described(first, entry)
    first.close()
    path.write_bytes(noise(MIB, 2))
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    second = open_reader(tree, store)
    expected = chunk_bytes(noise(MIB, 2))
    assert second.describe_many([(5, entry)]) == [Offer(5, 0, expected)]
    assert described(second, entry).chunks == expected
    second.close()


def test_a_file_read_in_the_tick_of_its_change_is_read_again(tree, store):
    path = tree / "file"
    for number in range(20):
        entry = write(path, noise(100_000, 1))
        first = open_reader(tree, store)
        described(first, entry)
        first.close()
        with path.open("r+b") as file:  # mostly in the same tick: ctime stays
            file.write(b"%05d" % number)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        second = open_reader(tree, store)
        assert described(second, entry).chunks == chunk_bytes(path.read_bytes())
        second.close()


def test_small_files_that_are_known_are_described_without_reading_them(tree, store):
    contents = [noise(20_000, n) for n in range(100)]
    entries = [(n, write(tree / str(n), data)) for n, data in enumerate(contents)]
    wait_for_the_next_tick(tree / "99")
    first = open_reader(tree, store)
    offers = first.describe_many(entries)
    first.close()
    (tree / "7").write_bytes(b"changed")
    entries[7] = 7, entry_of(tree / "7")
    second = open_reader(tree, store)
    before = bytes_read()
    again = second.describe_many(entries)
    assert bytes_read() - before < 500_000  # of 2 MB; the index is read, too
    assert again[:7] + again[8:] == offers[:7] + offers[8:]
    assert again[7] == Offer(7, 0, chunk_bytes(b"changed"))
    pieces = second.read_many(entries)
    contents[7] = b"changed"
    assert [joined([one]) for one in pieces] == contents
    second.close()


def test_a_known_file_that_is_not_small_has_to_stay_as_it_was_described(tree, store):
    path = tree / "file"
    entry = write(path, noise(100_000, 1))
    wait_for_the_next_tick(path)
    first = open_reader(tree, store)
    first.describe_many([(0, entry)])
    first.close()
    second = open_reader(tree, store)
    (offer,) = second.describe_many([(0, entry)])
    assert offer == Offer(0, 0, chunk_bytes(noise(100_000, 1)))
    path.write_bytes(noise(100_000, 2))
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    answer = second.read(entry, 0, ranges=[(0, 10)])
    assert answer == Problem(entry.path, CHANGED)
    second.close()


def test_a_tree_is_named_by_files_with_their_size_and_mtime(tree, store):
    entry = write(tree / "file", b"content")
    reader = open_reader(tree, store)
    assert reader.name([entry], [], {}) == ("", [entry])
    reader.describe_many([(0, entry)])
    name = tree_digest([entry], {b"file": blake3(b"content").digest()})
    assert reader.name([entry], [], {}) == (name, [])
    other = write(tree / "file", b"CONTENT")
    assert reader.name([other], [], {}) == ("", [other])
    assert reader.name([entry], [], {}) == (name, [])
    reader.close()
    without = TreeReader(os.fsencode(tree), SourceOptions())
    assert without.name([entry], [], {}) == ("", [entry])
    without.close()


# -- by several at once


def test_a_source_is_what_the_interface_says(tree):
    source: Source = LocalSource(os.fsencode(tree), SourceOptions())
    asyncio.run(source.close())


async def fetch(source: LocalSource, entries: list[Entry]) -> dict[bytes, bytes]:
    """Read all files, as a sync does; gives their content."""
    numbered = list(enumerate(entries))
    small = [one for one in numbered if one[1].size <= 65_536]
    await source.describe_many(small)
    pieces = await source.read_many(small)
    found = {
        entries[n].path: joined([one])
        for (n, _), one in zip(small, pieces, strict=True)
    }
    for number, entry in numbered:
        if (number, entry) not in small:
            content, offset, is_last = b"", 0, False
            while not is_last:
                offer = await source.describe(entry, number, offset=offset)
                assert isinstance(offer, Offer)
                size = sum(one.length for one in offer.chunks)
                got = await source.read(entry, number, ranges=[(offset, size)])
                content += joined(got)
                offset, is_last = offset + size, offer.is_last
            found[entry.path] = content
    return found


@pytest.mark.parametrize("is_shared", [False, True])
def test_one_source_serves_many_targets_at_once(tree, store, is_shared):
    contents = {b"%d" % n: noise(n * 20_000, n) for n in range(20)}
    contents[b"large"] = noise(PART + MIB)
    for name, data in contents.items():
        write(tree / os.fsdecode(name), data)

    async def main() -> None:
        source = LocalSource(
            os.fsencode(tree), SourceOptions(), store=store, is_shared=is_shared
        )
        entries = (await source.scan()).entries
        found = await asyncio.gather(*(fetch(source, entries) for _ in range(3)))
        assert all(one == contents for one in found)
        await source.close()
        await source.close()

    asyncio.run(main())


def test_what_is_shared_is_packed_and_numbered_for_each(tree):
    reader = TreeReader(os.fsencode(tree), SourceOptions(), is_shared=True)
    entry = write(tree / "file", b"so it goes\n" * 5000)
    for number in (4, 9):
        parts = reader.read(entry, number, ranges=[(0, entry.size)])
        assert isinstance(parts, list)
        for piece in (*reader.read_many([(number, entry)]), *parts):
            assert isinstance(piece, Piece)
            assert (piece.number, piece.packed) == (number, entry.size)
            assert joined([piece]) == b"so it goes\n" * 5000
    other = write(tree / "file", b"other")
    assert joined(reader.read_many([(1, other)])) == b"other"
    reader.close()


def test_the_event_loop_is_not_held_up(tree):
    """Other tasks have their turn while a large file is described."""
    entry = write(tree / "large", noise(2 * PART))

    async def main() -> int:
        source = LocalSource(os.fsencode(tree), SourceOptions())
        asking = asyncio.ensure_future(source.describe(entry, 0))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
        offer = await asking
        assert isinstance(offer, Offer)
        await source.close()
        return turns

    assert asyncio.run(main()) > 20


def test_names_may_be_any_bytes(reader, tree):
    name = b"\xff\n name"
    Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(b"odd")
    (entry,) = reader.scan().entries
    assert entry.path == name
    assert joined(reader.read_many([(0, entry)])) == b"odd"
