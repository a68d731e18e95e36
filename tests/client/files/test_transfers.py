"""Files by size: small new ones unasked, those that fit in a frame several at once."""

import random
from typing import Any

from mlepool.client.files.parts import GROUP
from mlepool.client.files.transfers import BATCH_SIZE, PROBE
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


# -- files of which some fit in a frame


def medium_files(count: int = 50) -> dict[bytes, bytes]:
    noise = random.Random(7)
    return {
        b"%02d" % number: noise.randbytes(noise.randint(66_000, 300_000))
        for number in range(count)
    }


@in_jumping_time
async def test_files_that_fit_in_a_frame_go_several_at_once():
    source, target = MemoryTree(medium_files()), MemoryTarget({})
    listener = await sync(source, target)
    assert target.files == source.files
    assert listener.value.sent == 50
    total = sum(map(len, source.files.values()))
    assert target.questions <= 2 * total / BATCH_SIZE
    assert len(target.frames) <= 2 * total / GROUP
    assert max(target.frames) <= GROUP


@in_jumping_time
async def test_of_files_that_fit_in_a_frame_only_what_is_missing_goes():
    source = MemoryTree(medium_files())
    known = dict(list(source.files.items())[::2])
    target = MemoryTarget({b"before/" + path: data for path, data in known.items()})
    await sync(source, target)
    new = sum(map(len, source.files.values())) - sum(map(len, known.values()))
    assert target.received == new
    again = MemoryTarget({b"before/" + path: one for path, one in source.files.items()})
    await sync(source, again)
    assert again.frames == []
    assert source.files.items() <= again.files.items()


@in_jumping_time
async def test_one_of_several_that_changes_is_looked_at_again():
    source, target = MemoryTree(medium_files()), MemoryTarget({})
    seen: list[bytes] = []

    def change(path: bytes) -> None:
        seen.append(path)
        if path == b"07" and seen.count(path) == 2:  # it was described, and is read
            source.files[path] += b"!"

    source.before_read = change
    listener = await sync(source, target)
    assert target.files == source.files
    assert target.files[b"07"].endswith(b"!")
    assert target.dropped == {7}
    assert listener.value.problems == ()
