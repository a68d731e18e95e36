"""Syncs between two ends in memory: what is sent, retried, undone and told."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3

from mlepool.client.files.remote_sessions import SessionLostError
from mlepool.client.files.syncing import Sync, SyncOptions
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions
from mlepool.errors import SyncHaltedError, SyncIncompleteError
from mlepool.files.base import (
    Offer,
    Piece,
    Problem,
    Scan,
    TargetReport,
)
from mlepool.files.chunks import chunk_bytes, content_digest
from mlepool.tree import FILE, FOLDER, Entry, order_of, tree_digest
from tests.tools import in_jumping_time

BIG = bytes(range(256)) * 8192  # 2 MiB


@dataclasses.dataclass
class MemoryTree:
    """A source in memory; what is asked of it can be made to fail."""

    files: dict[bytes, bytes]
    times: dict[bytes, int] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    closed: int = 0
    before_read: Callable[[bytes], None] = lambda path: None

    def entry(self, path: bytes) -> Entry:
        time = self.times.get(path, 1)
        return Entry(path, FILE, 0o644, len(self.files[path]), time)

    def entries(self) -> list[Entry]:
        folders = {path.rpartition(b"/")[0] for path in self.files if b"/" in path}
        found = [Entry(path, FOLDER, 0o755, 0, 1) for path in folders]
        found += [self.entry(path) for path in self.files]
        return sorted(found, key=lambda one: order_of(one.path))

    async def scan(self) -> Scan:
        return Scan(self.entries(), list(self.problems))

    def check(self, entry: Entry) -> Problem | None:
        self.before_read(entry.path)
        if entry.path in self.files and self.entry(entry.path) == entry:
            return None
        return Problem(entry.path, "it has changed")

    async def describe(
        self, entry: Entry, number: int, *, offset: int = 0
    ) -> Offer | Problem:
        problem = self.check(entry)
        if problem is not None:
            return problem
        chunks: list[Any] = []
        at = 0
        for chunk in chunk_bytes(self.files[entry.path]):
            if at >= offset and len(chunks) < 2:
                chunks.append(chunk)
            at += chunk.length
        end = offset + sum(one.length for one in chunks)
        return Offer(number, offset, tuple(chunks), end >= entry.size)

    async def describe_many(self, entries: Any) -> list[Offer | Problem]:
        return [
            self.check(entry)
            or Offer(number, 0, chunk_bytes(self.files[entry.path]), is_last=True)
            for number, entry in entries
        ]

    async def read(
        self, entry: Entry, number: int, *, ranges: Any, pack: bool
    ) -> list[Piece] | Problem:
        problem = self.check(entry)
        if problem is not None:
            return problem
        data = self.files[entry.path]
        return [Piece(number, at, data[at : at + length]) for at, length in ranges]

    async def read_many(self, entries: Any, *, pack: bool) -> list[Piece | Problem]:
        return [
            self.check(entry) or Piece(number, 0, self.files[entry.path])
            for number, entry in entries
        ]

    async def close(self) -> None:
        self.closed += 1


class MemoryTarget(MemoryTree):
    """A target in memory: nothing changes before commit."""

    wants_packed = True

    def __init__(self, files: dict[bytes, bytes], **keywords: Any) -> None:
        super().__init__(files, **keywords)
        self.known = {
            chunk.digest: data[at : at + chunk.length]
            for data in files.values()
            for at, chunk in places(data)
        }
        self.expected: dict[int, Entry] = {}
        self.staged: dict[int, bytearray] = {}
        self.dropped: set[int] = set()
        self.prepared: dict[str, Any] = {}
        self.committed = 0
        self.received = 0
        self.questions = 0
        self.offered = 0
        self.unasked = 0
        self.frames: list[int] = []
        self.reserved: tuple[int, int] | None = None
        self.before_commit: Callable[[], Any] | None = None
        self.before_write: Callable[[], Any] | None = None

    async def reserve(self, size: int, count: int) -> None:
        self.reserved = size, count

    async def expect(self, first: int, entries: Any) -> None:
        for number, entry in enumerate(entries, first):
            assert number not in self.expected
            self.expected[number] = entry
            self.staged[number] = bytearray(entry.size)

    async def offer(self, offers: Any) -> list[list[int]]:
        self.questions += 1
        self.offered += len(offers)
        return [self.missing(one) for one in offers]

    def missing(self, offer: Offer) -> list[int]:
        at, missing = offer.offset, []
        for index, chunk in enumerate(offer.chunks):
            data = self.known.get(chunk.digest)
            if data is None:
                missing.append(index)
            else:
                self.staged[offer.number][at : at + chunk.length] = data
            at += chunk.length
        return missing

    async def write(self, pieces: Any, *, offers: Any = ()) -> None:
        self.frames.append(sum(len(one.data) for one in pieces))
        self.unasked += len(offers)
        if self.before_write is not None:
            await self.before_write()
        for one in pieces:
            self.received += len(one.data)
            end = one.offset + len(one.data)
            self.staged[one.number][one.offset : end] = one.data

    async def drop(self, numbers: Any) -> None:
        self.dropped.update(numbers)

    async def prepare(self, **keywords: Any) -> None:
        self.prepared = keywords

    async def commit(self, *, digest: str = "") -> TargetReport:
        if self.before_commit is not None:
            await self.before_commit()
        self.committed += 1
        for path in self.prepared["deleted"]:
            for one in [
                one for one in self.files if (one + b"/").startswith(path + b"/")
            ]:
                del self.files[one]
        written = [one for one in self.expected if one not in self.dropped]
        for number in written:
            entry = self.expected[number]
            self.files[entry.path] = bytes(self.staged[number])
            self.times[entry.path] = entry.mtime_ns
        return TargetReport(len(written), 0, len(self.prepared["deleted"]))


def places(data: bytes) -> Any:
    at = 0
    for chunk in chunk_bytes(data):
        yield at, chunk
        at += chunk.length


def begin(
    source: Any, target: Any, timeout: float | None = None, **options: Any
) -> Any:
    """Sync in a job of its own; give its listener."""

    async def work(job: LocalJob) -> Any:
        return await Sync(job, lambda: (source, target), SyncOptions(**options)).run()

    call = CallOptions(timeout=timeout, raise_error=True)
    return LocalJob("test", "sync", work, options=call).listener


async def sync(source: Any, target: Any, **options: Any) -> Any:
    return await begin(source, target, **options).wait()


def tree(**files: bytes) -> dict[bytes, bytes]:
    return {name.encode().replace(b"_", b"/"): data for name, data in files.items()}


@in_jumping_time
async def test_a_tree_comes_whole_and_each_file_is_told():
    source, target = (
        MemoryTree(tree(a=b"one", d_b=b"two", big=BIG, e=b"")),
        MemoryTarget({}),
    )
    listener = await sync(source, target)
    assert target.files == source.files
    assert sorted(listener) == ["+ a", "+ big", "+ d", "+ d/b", "+ e"]
    value = listener.value
    assert (value.sent, value.skipped, value.deleted, value.problems) == (4, 0, 0, ())
    assert value.bytes_total == len(BIG) + 6
    assert 6 < value.bytes_sent <= len(BIG) + 6
    assert listener.status == "SUCCEEDED"
    assert source.closed == target.closed == 1
    progress = listener.progress
    assert (progress.files, progress.bytes) == (4, len(BIG) + 6)


@in_jumping_time
async def test_the_value_names_the_content():
    source, target = MemoryTree(tree(a=b"one", big=BIG)), MemoryTarget({})
    digests = {
        path: content_digest(chunk_bytes(data)) for path, data in source.files.items()
    }
    assert digests[b"a"] == blake3(b"one").digest()
    first = (await sync(source, target)).value.digest
    assert first == tree_digest(source.entries(), digests)
    same = MemoryTarget(dict(source.files))
    again = (await sync(source, same)).value
    assert same.committed == 0  # nothing to do
    assert (again.digest, again.sent, again.skipped) == (first, 0, 2)


@in_jumping_time
async def test_only_missing_chunks_are_sent():
    source, target = MemoryTree(tree(big=BIG + b"more")), MemoryTarget(tree(old=BIG))
    await sync(source, target)
    assert target.received < 1024 * 1024
    assert target.files[b"big"] == BIG + b"more"


@in_jumping_time
async def test_what_the_source_lacks_stays_unless_it_is_to_go():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget(tree(a=b"1", b=b"2"))
    await sync(source, target)
    assert b"b" in target.files
    target = MemoryTarget(target.files)
    listener = await sync(source, target, delete=True)
    assert list(listener) == ["- b"]
    assert target.files == source.files
    assert listener.value.deleted == 1


@in_jumping_time
async def test_a_dry_run_tells_and_changes_nothing():
    source, target = (
        MemoryTree(tree(a=b"new", b=b"1")),
        MemoryTarget(tree(a=b"old!", c=b"")),
    )
    listener = await sync(source, target, dry_run=True, delete=True)
    assert list(listener) == ["- c", "+ b", "~ a"]
    assert target.committed == 0
    assert target.reserved is None
    assert listener.value.sent == 2


@in_jumping_time
async def test_what_looks_like_a_mistake_is_halted():
    source, target = MemoryTree({}), MemoryTarget(tree(a=b"1"))
    with pytest.raises(SyncHaltedError, match="the source is empty"):
        await sync(source, target, delete=True)
    assert target.closed == 1
    await sync(source, target, delete=True, force=True)
    assert target.files == {}


@in_jumping_time
async def test_a_file_that_changes_while_it_is_read_is_looked_at_again():
    source, target = MemoryTree(tree(a=b"old", b=b"1", big=BIG)), MemoryTarget({})
    left = {b"a": 1, b"big": 2}

    def change(path: bytes) -> None:
        if left.get(path):
            left[path] -= 1
            source.files[path] = source.files[path] + b"!"

    source.before_read = change
    listener = await sync(source, target)
    assert target.files == source.files
    assert listener.value.problems == ()
    assert listener.value.sent == 3


@in_jumping_time
async def test_a_file_that_always_changes_is_a_problem_and_the_rest_is_synced():
    source, target = MemoryTree(tree(a=b"old", b=b"1")), MemoryTarget(tree(a=b"before"))

    def change(path: bytes) -> None:
        if path == b"a":
            source.files[path] += b"!"

    source.before_read = change
    with pytest.raises(SyncIncompleteError, match="'a': it has changed") as caught:
        await sync(source, target)
    assert target.files == tree(a=b"before", b=b"1")
    summary = caught.value.summary
    assert [one.path for one in summary.problems] == ["a"]
    assert (summary.sent, summary.digest) == (1, "")


@in_jumping_time
async def test_the_name_is_that_of_what_was_sent():
    source, target = MemoryTree(tree(a=b"old", b=b"1", c=b"2")), MemoryTarget({})

    def change(path: bytes) -> None:
        if source.files[b"a"] == b"old":
            source.files[b"a"] = b"changed"
            source.files[b"new"] = b"made meanwhile"
            del source.files[b"c"]

    source.before_read = change
    digest = (await sync(source, target)).value.digest
    assert target.files == tree(a=b"changed", b=b"1")
    assert (
        digest == (await sync(MemoryTree(target.files), MemoryTarget({}))).value.digest
    )


@pytest.mark.parametrize("delete", [False, True])
@in_jumping_time
async def test_a_file_that_vanishes_is_no_problem(delete):
    source, target = MemoryTree(tree(a=b"new", b=b"1")), MemoryTarget(tree(a=b"old!"))

    def vanish(path: bytes) -> None:
        source.files.pop(b"a", None)

    source.before_read = vanish
    listener = await sync(source, target, delete=delete)
    assert target.files == (tree(b=b"1") if delete else tree(a=b"old!", b=b"1"))
    assert listener.value.problems == ()


@in_jumping_time
async def test_what_can_not_be_read_is_not_deleted_over_there():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget(tree(a=b"1", d_x=b"2"))
    source.problems.append(Problem(b"d", "Permission denied"))
    with pytest.raises(SyncIncompleteError, match="Permission denied"):
        await sync(source, target, delete=True)
    assert b"d/x" in target.files


@in_jumping_time
async def test_nothing_is_deleted_where_not_all_problems_are_named():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget(tree(a=b"1", b=b"2"))
    source.problems.append(Problem(b"", "and 3 more"))
    with pytest.raises(SyncIncompleteError, match="and 3 more"):
        await sync(source, target, delete=True)
    assert b"b" in target.files


@in_jumping_time
async def test_a_stopped_sync_changes_nothing():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget({})
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await never.wait()

    target.before_write = wait
    listener = begin(source, target)
    await reached.wait()
    report = await listener.stop()
    assert report.status == listener.status == "STOPPED"
    assert target.files == {}
    assert target.closed == source.closed == 1


@in_jumping_time
async def test_a_sync_ends_at_its_timeout():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget({})
    target.before_write = asyncio.Event().wait
    listener = begin(source, target, timeout=5.0)
    with pytest.raises(TimeoutError, match="within 5 s; it was stopped"):
        await listener.wait()
    assert listener.status == "TIMED_OUT"
    assert target.closed == 1


@in_jumping_time
async def test_a_stop_that_comes_too_late_waits_for_the_end():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget({})
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await go_on.wait()

    target.before_commit = wait
    listener = begin(source, target)
    await reached.wait()
    stop = asyncio.create_task(listener.stop())
    await asyncio.sleep(1)
    go_on.set()
    assert (await stop).status == "SUCCEEDED"
    assert target.files == source.files


@in_jumping_time
async def test_a_worker_that_forgets_the_sync_is_begun_anew_with():
    source, targets = MemoryTree(tree(a=b"1", b=b"2")), []
    lost = [True, True, False]

    def ends() -> Any:
        target = MemoryTarget({})

        async def lose() -> None:
            if lost.pop(0):
                raise SessionLostError("it was restarted")

        target.before_commit = lose
        targets.append(target)
        return source, target

    async def work(job: LocalJob) -> Any:
        return await Sync(job, ends, SyncOptions()).run()

    listener = LocalJob("test", "sync", work, options=CallOptions()).listener
    await listener.wait()
    assert [one.committed for one in targets] == [0, 0, 1]
    assert [one.closed for one in targets] == [1, 1, 1]
    assert listener[:] == ["+ a", "+ b"]  # told once


@in_jumping_time
async def test_what_an_end_raises_is_the_listeners_error():
    source, target = MemoryTree(tree(a=b"1")), MemoryTarget({})

    async def fail() -> None:
        raise OSError(28, "No space left on device")

    target.before_write = fail
    listener = begin(source, target)
    with pytest.raises(OSError, match="No space left"):
        await listener.wait()
    assert listener.status == "FAILED"
    assert isinstance(listener.error, OSError)
    assert target.closed == 1
