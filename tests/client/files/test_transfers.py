"""Small new files: offered where some are known, else sent at once."""

from typing import Any

from mlepool.client.files.transfers import PROBE
from mlepool.files.base import Offer, Piece, Problem
from mlepool.files.chunks import chunk_bytes
from tests.client.files.test_syncing import MemoryTarget, MemoryTree, sync
from tests.tools import in_jumping_time

COUNT = 1000


class NearTree(MemoryTree):
    """A source that is not on a worker."""

    async def read_new(
        self, entries: Any, *, pack: bool
    ) -> list[tuple[Offer, Piece] | Problem]:
        found: list[tuple[Offer, Piece] | Problem] = []
        for number, entry in entries:
            problem = self.check(entry)
            data = self.files.get(entry.path, b"")
            offer = Offer(number, 0, chunk_bytes(data))
            found.append(problem or (offer, Piece(number, 0, data)))
        return found


def many_files() -> dict[bytes, bytes]:
    return {b"%04d" % number: b"%d" % number for number in range(COUNT)}


@in_jumping_time
async def test_what_a_target_never_had_is_sent_unasked():
    source, target = NearTree(many_files()), MemoryTarget({})
    listener = await sync(source, target)
    assert target.files == source.files
    assert PROBE <= target.offered <= 2 * PROBE
    assert target.unasked == COUNT - target.offered
    assert len(list(listener)) == listener.value.sent == COUNT
    again = await sync(MemoryTree(source.files), MemoryTarget({}))
    assert again.value.digest == listener.value.digest


@in_jumping_time
async def test_what_is_on_a_worker_is_offered():
    source, target = MemoryTree(many_files()), MemoryTarget({})
    await sync(source, target)
    assert target.files == source.files
    assert (target.offered, target.unasked) == (COUNT, 0)


@in_jumping_time
async def test_where_some_content_is_there_all_are_offered():
    source = NearTree(many_files())
    moved = {b"before/" + path: data for path, data in source.files.items()}
    target = MemoryTarget(moved)
    await sync(source, target)
    assert (target.offered, target.received) == (COUNT, 0)


@in_jumping_time
async def test_old_versions_and_empty_files_are_offered():
    source = NearTree(many_files())
    old = {path: b"another" for path in list(source.files)[::2]}
    source.files |= {b"empty-%d" % number: b"" for number in range(50)}
    target = MemoryTarget(dict(old))
    await sync(source, target)
    assert target.files == source.files
    assert COUNT / 2 - 2 * PROBE <= target.unasked <= COUNT / 2 - PROBE


@in_jumping_time
async def test_what_changes_while_it_is_read_is_looked_at_again():
    source, target = NearTree(many_files()), MemoryTarget({})
    changed: set[bytes] = set()

    def change(path: bytes) -> None:
        if path.endswith(b"7") and path not in changed:
            changed.add(path)
            source.files[path] += b"!"

    source.before_read = change
    listener = await sync(source, target)
    assert target.files == source.files
    assert len(changed) == COUNT / 10
    assert listener.value.problems == ()
