"""What is known of content: real files that are changed, moved, kept and damaged."""

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from mlepool.files import database
from mlepool.files.attic import Attic
from mlepool.files.base import Chunk
from mlepool.files.catalogue import Catalogue, Row, pack_chunks, unpack_chunks
from mlepool.files.chunks import chunk_bytes, content_digest
from mlepool.files.proofs import (
    LOOSE,
    RACY,
    SOUND,
    Record,
    file_clock,
    rate,
)
from mlepool.files.store import FILE, Store
from tests.needs import small_disk

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def wait_for_the_next_tick(path: Path) -> None:
    """Wait until the clock of files has gone on since a file was changed."""
    changed = path.lstat().st_ctime_ns
    while file_clock() <= changed:
        pass  # some milliseconds


def record(path: Path, *, is_racy: bool = False) -> Record:
    if not is_racy:
        wait_for_the_next_tick(path)
    noted_ns = path.stat().st_ctime_ns if is_racy else file_clock()
    chunks = chunk_bytes(path.read_bytes())
    return Record(os.fsencode(path), path.stat(), chunks, noted_ns)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def name_of(content: bytes) -> bytes:
    (chunk,) = chunk_bytes(content)
    return chunk.digest


def content_at(location) -> bytes | None:
    fd = location.open()
    if fd is None:
        return None
    try:
        return os.pread(fd, location.length, location.offset)
    finally:
        os.close(fd)


# -- what is found


def test_what_was_noted_is_found_by_its_digest(store, tree):
    store.note(
        [record(write(tree / "a", b"apple")), record(write(tree / "b", b"bean"))]
    )
    digests = [name_of(b"apple"), name_of(b"bean"), name_of(b"corn")]
    found = store.find(digests)
    assert {one: content_at(place) for one, place in found.items()} == {
        digests[0]: b"apple",
        digests[1]: b"bean",
    }
    assert all(place.is_proven for place in found.values())


def test_each_chunk_of_a_large_file_is_found_where_it_is(store, tree):
    content = os.urandom(3 * MIB)
    store.note([record(write(tree / "large", content))])
    chunks = chunk_bytes(content)
    found = store.find(one.digest for one in chunks)
    assert len(chunks) > 3
    for chunk in chunks:
        piece = content_at(found[chunk.digest])
        assert piece is not None
        assert blake3(piece).digest() == chunk.digest


def test_a_store_remembers_over_restarts(tmp_path, tree):
    path = write(tree / "a", b"apple")
    first = Store(tmp_path / "state")
    first.note([record(path)])
    first.close()
    first.close()
    second = Store(tmp_path / "state")
    assert name_of(b"apple") in second.find([name_of(b"apple")])
    second.close()


@pytest.mark.parametrize("change", ["write", "replace", "remove", "touch", "link"])
def test_a_file_that_looks_otherwise_is_not_found_any_more(store, tree, change):
    path = write(tree / "a", b"apple")
    other = write(tree / "other", b"APPLE")
    store.note([record(path)])
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    if change == "write":
        path.write_bytes(b"APPLE")
    elif change == "replace":
        os.replace(other, path)
    elif change == "remove":
        path.unlink()
    elif change == "touch":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
        path.symlink_to(other)
    assert location.open() is None
    assert store.find([name_of(b"apple")]) == {}


def test_content_with_its_old_mtime_put_back_is_not_believed(store, tree):
    path = write(tree / "a", b"apple")
    store.note([record(path)])
    stat = path.stat()
    path.write_bytes(b"melon")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert store.find([name_of(b"apple")]) == {}
    assert store.known([(os.fsencode(path), path.stat())]) == [None]


def test_what_was_read_in_the_tick_of_its_change_is_found_but_not_proven(store, tree):
    path = write(tree / "a", b"apple")
    store.note([record(path, is_racy=True)])
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    assert (location.trust, location.is_proven) == (RACY, False)
    assert store.known([(os.fsencode(path), path.stat())]) == [None]
    assert store.digests([asked(path)]) == [None]
    store.note([record(path)])
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    assert (location.trust, location.is_proven) == (SOUND, True)


def test_whole_seconds_are_taken_for_a_coarse_clock(tree):
    path = write(tree / "a", b"apple")
    fields = list(path.stat())
    second = 1_000_000_000

    def changed_at(ns: int) -> os.stat_result:
        return os.stat_result(fields, {"st_ctime_ns": ns})

    assert rate(changed_at(5 * second), 7 * second) == RACY
    assert rate(changed_at(5 * second), 7 * second + 1) == SOUND
    assert rate(changed_at(5 * second + 1), 5 * second + 1) == RACY
    assert rate(changed_at(5 * second + 1), 5 * second + 2) == SOUND


# -- scans of unchanged trees


def test_files_are_known_without_reading_while_they_look_as_they_did(store, tree):
    large = os.urandom(2 * MIB)
    paths = [write(tree / "a", b"apple"), write(tree / "large", large)]
    store.note(map(record, paths))
    asked = [(os.fsencode(one), one.stat()) for one in (*paths, write(tree / "c", b""))]
    assert store.known(asked) == [chunk_bytes(b"apple"), chunk_bytes(large), None]
    os.utime(paths[0])
    assert store.known([(asked[0][0], paths[0].stat())]) == [None]


def test_digests_are_those_of_files_with_their_size_and_mtime(store, tree):
    large = os.urandom(2 * MIB)
    paths = [write(tree / "a", b"apple"), write(tree / "large", large)]
    store.note(map(record, paths))
    digests = [blake3(b"apple").digest(), content_digest(chunk_bytes(large))]
    assert store.digests([*map(asked, paths), (b"/no", 5, 5)]) == [*digests, None]
    path, size, mtime_ns = asked(paths[0])
    others = [(path, size + 1, mtime_ns), (path, size, mtime_ns + 1), (path, 0, -1)]
    assert store.digests(others) == [None, None, None]


def asked(path: Path) -> tuple[bytes, int, int]:
    return os.fsencode(path), path.stat().st_size, path.stat().st_mtime_ns


def noted_of(store: Store, paths: list[Path]) -> list[Path]:
    """Give those of which something is noted."""
    noted: list[Path] = []
    store.known_by([*map(os.fsencode, paths)], lambda n: noted.append(paths[n]))
    return noted


def test_an_empty_file_is_known_to_be_empty(store, tree):
    path = write(tree / "empty", b"")
    store.note([record(path)])
    assert store.known([(os.fsencode(path), path.stat())]) == [()]
    assert store.digests([asked(path)]) == [blake3(b"").digest()]


def test_what_is_forgotten_is_gone_with_all_below_it(store, tree):
    paths = [write(tree / one, one.encode()) for one in ("a/x", "a/y", "ab")]
    store.note(map(record, paths))
    store.forget(os.fsencode(tree / "a"))
    store.forget(os.fsencode(tree / "never"))
    assert noted_of(store, paths) == paths[2:]
    assert store.find([name_of(b"a/x")]) == {}


def test_names_may_be_any_bytes_and_paths_longer_than_the_system_takes(store, tree):
    odd = os.fsencode(tree) + b"/\xff\n'\" ;"
    Path(os.fsdecode(odd)).write_bytes(b"odd")
    store.note([record(Path(os.fsdecode(odd)))])
    fd = os.open(tree, os.O_RDONLY)
    path = os.fsencode(tree)
    for _ in range(22):
        name = b"d" * 240
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, path = below, path + b"/" + name
    file = os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
    os.write(file, b"deep")
    store.note([Record(path + b"/file", os.fstat(file), chunk_bytes(b"deep"), 1)])
    found = store.find([name_of(b"odd"), name_of(b"deep")])
    assert [content_at(one) for one in found.values()] == [b"odd", b"deep"]
    os.close(file)
    os.close(fd)
    assert len(path) > 5000


# -- renamed, replaced and deleted files


def test_renamed_folders_take_what_is_known_of_their_files_along(store, tree):
    path = write(tree / "old" / "sub" / "a", b"apple")
    store.note([record(path)])
    os.rename(tree / "old", tree / "new")
    store.moved(os.fsencode(tree / "old"), os.fsencode(tree / "new"))
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    assert location.path == os.fsencode(tree / "new" / "sub" / "a")
    assert location.is_proven


def test_a_renamed_file_is_found_but_its_ctime_proves_nothing(store, tree):
    path = write(tree / "old", b"apple")
    store.note([record(path)])
    os.rename(path, tree / "new")
    store.moved(os.fsencode(path), os.fsencode(tree / "new"))
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    assert (content_at(location), location.trust) == (b"apple", LOOSE)


def keep(store: Store, path: Path) -> bool:
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        name = os.fsencode(path.name)
        return store.keep(os.fsencode(path), path.stat(), dir_fd=fd, name=name)
    finally:
        os.close(fd)


def attic_of(store_folder: Path) -> list[Path]:
    return sorted((store_folder / "attic").iterdir())


def test_many_old_versions_are_kept(store, tree):
    paths = [write(tree / str(n), b"%d" % n) for n in range(300)]
    wait_for_the_next_tick(paths[-1])
    store.note(map(record, paths))
    for path in paths:
        assert keep(store, path)
        path.unlink()
    assert len(store.find(name_of(b"%d" % n) for n in range(300))) == 300


def test_an_old_version_is_found_in_the_attic_after_it_was_replaced(store, tree):
    path = write(tree / "a", b"apple")
    store.note([record(path)])
    assert keep(store, path)
    inode = path.stat().st_ino
    os.replace(write(tree / "new", b"melon"), path)
    location = store.find([name_of(b"apple")])[name_of(b"apple")]
    assert (content_at(location), location.is_proven) == (b"apple", False)
    assert os.stat(location.path).st_ino == inode  # linked, not copied


def test_what_is_not_known_is_not_kept(store, tree):
    path = write(tree / "a", b"apple")
    assert not keep(store, path)
    store.note([record(path)])
    path.write_bytes(b"melon")
    assert not keep(store, path)


def test_files_of_another_file_system_are_not_kept(store, tree):
    with small_disk(tree / "disk", "1m") as disk:
        path = write(disk / "a", b"apple")
        store.note([record(path)])
        assert not keep(store, path)


def test_the_attic_keeps_to_its_limit_and_what_was_of_use(tmp_path, tree):
    size = 64 * 1024
    store = Store(tmp_path / "state", limit=3 * size)
    contents = [os.urandom(size) for _ in range(5)]
    paths = [write(tree / str(n), content) for n, content in enumerate(contents)]
    os.sync()  # only then it is known how much they take
    store.note(map(record, paths))
    for path in paths[:3]:
        assert keep(store, path)
        path.unlink()
        store.flush()
    assert name_of(contents[0]) in store.find([name_of(contents[0])])  # used
    assert keep(store, paths[3])
    paths[3].unlink()
    found = store.find(map(name_of, contents[:4]))
    assert set(found) == {name_of(contents[one]) for one in (0, 2, 3)}
    assert len(attic_of(tmp_path / "state")) == 3
    store.close()


def test_a_file_larger_than_the_attic_is_not_kept(tmp_path, tree):
    store = Store(tmp_path / "state", limit=4096)
    path = write(tree / "a", os.urandom(100_000))
    os.sync()
    store.note([record(path)])
    assert not keep(store, path)
    store.close()


def test_the_attic_survives_restarts_and_notices_what_was_removed_by_hand(
    tmp_path, tree
):
    store = Store(tmp_path / "state")
    paths = [write(tree / "a", b"apple"), write(tree / "b", b"bean")]
    store.note(map(record, paths))
    for path in paths:
        assert keep(store, path)
        path.unlink()
    store.close()
    removed, stays = attic_of(tmp_path / "state")
    gone = removed.read_bytes()
    removed.unlink()
    store = Store(tmp_path / "state")
    found = store.find([name_of(b"apple"), name_of(b"bean")])
    assert [content_at(one) for one in found.values()] == [stays.read_bytes()]
    assert name_of(gone) not in found
    store.close()


def test_files_in_the_attic_that_nobody_knows_are_removed_in_the_end(tmp_path):
    stray = write(tmp_path / "state" / "attic" / "stray", b"?")
    Store(tmp_path / "state").close()
    assert stray.exists()  # another process may be about to note it
    attic = Attic(tmp_path / "state" / "attic")
    attic.clear((), now=stray.stat().st_ctime + 7200)
    attic.close()
    assert not stray.exists()


# -- bounds


def test_what_is_gone_is_forgotten_in_the_course_of_time(store, tree):
    paths = [write(tree / str(n), str(n).encode()) for n in range(300)]
    store.note(map(record, paths))
    for path in paths:
        path.unlink()
    for _ in range(4):
        store.note([record(write(tree / "last", b"last"))])
    last = tree / "last"
    assert noted_of(store, [*paths, last]) == [last]


def test_the_index_is_bounded_and_drops_what_was_noted_first(tmp_path, tree):
    catalogue = Catalogue(tmp_path / FILE, most_files=10, most_chunks=30)
    rows = [Row(b"/%02d" % n, b"proof", SOUND, pack_chunks(two(n))) for n in range(20)]
    catalogue.add(rows[:10])
    catalogue.add(rows[10:])
    assert {one.path for one in catalogue.below(b"/")} == {
        b"/%02d" % n for n in range(10, 20)
    }
    many = Row(b"/many", b"proof", SOUND, pack_chunks(two(99) * 10))
    catalogue.add(
        [many._replace(chunks=pack_chunks(c for n in range(12) for c in two(n)))]
    )
    kept = {one.path for one in catalogue.below(b"/")}
    assert kept == {b"/many", b"/17", b"/18", b"/19"}
    assert (
        catalogue.places([two(3)[0].digest])[two(3)[0].digest][0].location.path
        == b"/many"
    )
    catalogue.close()


def two(number: int) -> list[Chunk]:
    return [
        Chunk(blake3(b"%d %d" % (number, one)).digest(), 10 + one) for one in (0, 1)
    ]


def test_a_chunk_that_a_file_has_a_million_times_is_noted_once(tmp_path):
    catalogue = Catalogue(tmp_path / FILE, most_chunks=10)
    chunk = two(1)[0]
    catalogue.add([Row(b"/zeros", b"proof", SOUND, pack_chunks([chunk] * 1_000))])
    assert catalogue.places([chunk.digest])[chunk.digest][0].location.offset == 0
    assert (
        unpack_chunks(catalogue.rows([b"/zeros"])[b"/zeros"].chunks) == (chunk,) * 1_000
    )
    catalogue.add([])
    catalogue.forget(b"/zeros")
    assert catalogue.places([chunk.digest]) == {}
    catalogue.close()


def test_what_is_noted_again_and_is_the_same_stays_as_it_is(tmp_path):
    catalogue = Catalogue(tmp_path / FILE)
    rows = [Row(b"/%d" % n, b"proof", SOUND, pack_chunks(two(n))) for n in range(4)]
    paths = [one.path for one in rows]
    catalogue.add(rows)
    before = catalogue.rows(paths)
    changed = [
        *rows[:1],
        rows[1]._replace(proof=b"other"),
        rows[2]._replace(trust=LOOSE),
        rows[3]._replace(chunks=pack_chunks(two(9))),
    ]
    catalogue.add(changed)
    after = catalogue.rows(paths)
    assert after[b"/0"] == before[b"/0"]
    assert [after[one.path]._replace(file=0) for one in changed] == changed
    assert catalogue.places([two(3)[0].digest]) == {}
    assert list(catalogue.places([two(9)[1].digest])) == [two(9)[1].digest]
    catalogue.close()


# -- what can go wrong with the index


@pytest.mark.parametrize("content", [b"not a database" * 999, os.urandom(100_000)])
def test_a_damaged_index_is_set_aside_and_begun_anew(tmp_path, caplog, content):
    write(tmp_path / "state" / FILE, content)
    with caplog.at_level(logging.WARNING, logger="mlepool.files"):
        store = Store(tmp_path / "state")
    assert "set aside" in caplog.text
    assert (tmp_path / "state" / f"{FILE}.damaged").read_bytes() == content
    store.note([record(write(tmp_path / "a", b"apple"))])
    assert name_of(b"apple") in store.find([name_of(b"apple")])
    store.close()


def test_the_database_of_another_program_is_set_aside(tmp_path):
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state" / FILE) as other:
        other.execute("CREATE TABLE files (id)")
    other.close()
    store = Store(tmp_path / "state")
    assert store.find([name_of(b"apple")]) == {}
    store.close()
    assert (tmp_path / "state" / f"{FILE}.damaged").exists()


def test_an_index_that_is_damaged_while_it_is_used_is_begun_anew(tmp_path, tree):
    store = Store(tmp_path / "state")
    paths = [write(tree / f"{n:04}", b"%d" % n) for n in range(600)]
    wait_for_the_next_tick(paths[-1])
    store.note(map(record, paths))
    store.close()
    store = Store(tmp_path / "state")
    size = (tmp_path / "state" / FILE).stat().st_size
    with (tmp_path / "state" / FILE).open("r+b") as file:
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(os.urandom(4096))
    found = store.find(name_of(b"%d" % n) for n in range(600))
    assert found == {}
    store.note([record(paths[0])])
    assert name_of(b"0") in store.find([name_of(b"0")])
    store.close()


def test_a_full_disk_keeps_the_index_from_learning_and_breaks_nothing(tmp_path, tree):
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = Store(disk / "state")
        store.note([record(write(tree / "a", b"apple"))])
        with pytest.raises(OSError, match="No space"):
            (disk / "filler").write_bytes(bytes(2 * MIB))
        many = [Chunk(os.urandom(32), 70_000) for _ in range(30_000)]
        first = record(write(tree / "b", b"bean"))
        store.note([first._replace(chunks=many)])
        assert store.find([many[0].digest]) == {}
        (disk / "filler").unlink()
        store.note([first])
        assert name_of(b"bean") in store.find([name_of(b"bean")])
        store.close()


def test_a_folder_that_can_not_be_written_means_an_index_in_memory(tmp_path, tree):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).mkdir()  # even root can't open that
    store = Store(tmp_path / "state")
    store.note([record(write(tree / "a", b"apple"))])
    assert name_of(b"apple") in store.find([name_of(b"apple")])
    store.close()


def test_two_processes_share_an_index(tmp_path, tree):
    store = Store(tmp_path / "state")
    paths = [write(tree / str(n), b"%d" % n) for n in range(100)]
    wait_for_the_next_tick(paths[-1])
    program = (
        "import sys; sys.path.insert(0, '.');"
        "from pathlib import Path; from tests.files.test_store import Store, record;"
        "store = Store(Path(sys.argv[1]));"
        "[store.note([record(Path(one))]) for one in sys.argv[2:]];"
        "store.close()"
    )
    words = [sys.executable, "-c", program, tmp_path / "state", *paths[:50]]
    with subprocess.Popen(words) as other:
        for path in paths[50:]:
            store.note([record(path)])
    assert other.returncode == 0
    assert len(store.find(name_of(b"%d" % n) for n in range(100))) == 100
    store.close()


def test_an_index_that_another_process_holds_is_not_waited_for_for_ever(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(database, "BUSY", 0.05)
    store = Store(tmp_path / "state")
    paths = [write(tmp_path / "a", b"apple"), write(tmp_path / "b", b"bean")]
    records = [record(one) for one in paths]
    store.note(records[:1])
    holder = sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        store.note(records[1:])
        store.forget(records[0].path)
        store.moved(records[0].path, b"/elsewhere")
    found = store.find([name_of(b"apple"), name_of(b"bean")])
    assert set(found) == {name_of(b"apple")}  # reading goes on
    assert keep(store, paths[0])
    store.flush()  # in vain
    assert caplog.text.count("is not used just now: database is locked") == 1
    holder.execute("ROLLBACK")
    holder.close()
    store.note(records[1:])
    assert name_of(b"bean") in store.find([name_of(b"bean")])
    store.close()


def test_threads_share_a_store(store, tree):
    paths = [write(tree / str(n), b"%d" % n) for n in range(80)]

    def note(some: list[Path]) -> None:
        for path in some:
            store.note([record(path)])
            store.find([name_of(path.read_bytes())])

    threads = [threading.Thread(target=note, args=[paths[n::4]]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.find(name_of(b"%d" % n) for n in range(80))) == 80


def test_a_closed_store_knows_nothing_and_does_no_harm(tmp_path, tree):
    store = Store(tmp_path / "state")
    path = write(tree / "a", b"apple")
    store.note([record(path)])
    store.close()
    store.note([record(path)])
    assert store.find([name_of(b"apple")]) == {}
    assert not keep(store, path)
