"""Files cut into chunks: the same bytes are the same chunks, wherever they stand."""

import contextlib
import os
import random
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3

from mlepool.files import chunks
from mlepool.files.base import Chunk
from mlepool.files.chunks import (
    AVERAGE,
    BLOCK,
    LARGEST,
    SMALL,
    chunk_bytes,
    chunk_file,
    chunk_part,
    content_digest,
)

MIB = 1024 * 1024

# Of noise(3 * MIB)
OFFSETS = [
    0,
    204367,
    478407,
    876678,
    1354253,
    1521776,
    1606691,
    1929454,
    2221164,
    2568363,
]
DIGEST = "a2bc793bbfb188662eb47f7056d3c9933b3fcc039770a5ed87e9522260b8ea95"


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def cut(tmp_path):
    """Write content into a file and cut it."""

    def cut_content(content: bytes, **options) -> list[tuple[int, Chunk]]:
        path = tmp_path / "content"
        path.write_bytes(content)
        return cut_path(path, **options)

    return cut_content


def cut_path(path, **options) -> list[tuple[int, Chunk]]:
    with opened(path) as fd:
        return list(chunk_file(fd, **options))


@contextlib.contextmanager
def opened(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "size", [0, 1, SMALL, SMALL + 1, AVERAGE, LARGEST, LARGEST + 1, BLOCK, BLOCK + 1]
)
def test_chunks_follow_each_other_and_name_their_bytes(cut, size):
    content = noise(size)
    found = cut(content)
    position = 0
    for offset, chunk in found:
        assert offset == position
        piece = content[offset : offset + chunk.length]
        assert chunk == Chunk(blake3(piece).digest(), len(piece))
        position += chunk.length
    assert position == size
    assert tuple(chunk for _, chunk in found) == chunk_bytes(content)


def test_sizes_keep_their_bounds_and_come_near_the_average(cut):
    lengths = [chunk.length for _, chunk in cut(noise(16 * MIB))]
    assert all(SMALL < one <= LARGEST for one in lengths[:-1])
    assert AVERAGE / 2 < sum(lengths) / len(lengths) < AVERAGE * 2


def test_a_small_file_is_one_chunk_and_an_empty_one_none(cut):
    assert len(cut(noise(SMALL))) == 1
    assert cut(b"") == []


def test_where_a_chunk_ends_is_fixed_for_all_time(cut):
    """Stores and other releases know these chunks: a change makes them worthless."""
    found = cut(noise(3 * MIB))
    assert [offset for offset, _ in found] == OFFSETS
    joined = b"".join(chunk.digest for _, chunk in found)
    assert blake3(joined).hexdigest() == DIGEST


def test_reading_may_begin_at_the_border_of_any_chunk(cut):
    content = noise(5 * MIB)
    found = cut(content)
    for number, (offset, _) in enumerate(found):
        assert cut(content, offset=offset) == found[number:]


@pytest.mark.parametrize("limit", [1, SMALL, MIB, 3 * MIB + 1, 50 * MIB])
def test_parts_join_to_the_whole(cut, limit):
    content = noise(6 * MIB)
    whole = cut(content)
    joined: list[tuple[int, Chunk]] = []
    while not joined or sum(chunk.length for _, chunk in joined) < len(content):
        begin = sum(chunk.length for _, chunk in joined)
        part = cut(content, offset=begin, limit=limit)
        assert all(begin <= offset < begin + limit for offset, _ in part)
        joined += part
    assert joined == whole


@pytest.mark.parametrize("limit", [SMALL, MIB, 3 * MIB + 1, 50 * MIB])
def test_a_part_has_the_chunks_and_the_bytes_of_a_file(tmp_path, limit):
    content = noise(6 * MIB)
    path = tmp_path / "content"
    path.write_bytes(content)
    whole = chunk_bytes(content)
    found: list[Chunk] = []
    read = b""
    with opened(path) as fd:
        while len(found) < len(whole):
            part, data = chunk_part(fd, offset=len(read), limit=limit)
            assert data is not None
            assert sum(chunk.length for chunk in part[:-1]) < limit
            assert sum(chunk.length for chunk in part) == len(data)
            found += part
            read += data
        assert chunk_part(fd, offset=len(content), limit=limit)[0] == []
    assert (tuple(found), read) == (whole, content)


def test_beyond_the_end_there_is_nothing(cut):
    assert cut(noise(100), offset=100) == []
    assert cut(noise(100), offset=5000, limit=MIB) == []
    assert cut(noise(100), limit=0) == []


def test_a_byte_inserted_changes_few_chunks(cut):
    content = noise(16 * MIB)
    before = {chunk for _, chunk in cut(content)}
    after = {chunk for _, chunk in cut(content[: 5 * MIB] + b"!" + content[5 * MIB :])}
    assert len(before) > 30
    assert len(after - before) <= 3


def test_the_file_may_have_become_shorter(tmp_path):
    path = tmp_path / "shrinking"
    path.write_bytes(noise(8 * MIB))
    with opened(path) as fd:
        found = chunk_file(fd)
        first = next(found)
        os.truncate(path, 3 * MIB)
        rest = list(found)
    assert first[0] == 0
    assert rest[-1][0] + rest[-1][1].length == 3 * MIB


def test_a_file_that_grows_all_the_time_has_an_end(tmp_path):
    path = tmp_path / "growing"
    path.write_bytes(noise(3 * MIB))
    total = 0
    with opened(path) as fd, path.open("ab") as end:
        for _, chunk in chunk_file(fd):
            total += chunk.length
            end.write(noise(MIB))
            end.flush()
    assert total == 3 * MIB


# -- holes


def sparse(path: Path, size: int, islands: dict[int, bytes]) -> bytes:
    """Make a file with holes; gives its content."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in islands.items():
            file.seek(offset)
            file.write(data)
    return path.read_bytes()


@pytest.mark.parametrize(
    "islands",
    [
        {},
        {0: noise(1000)},
        {9 * MIB: noise(2 * MIB)},
        {5 * MIB + 17: b"x", 5 * MIB + 70_000: noise(100_000), 12 * MIB - 1: b"!"},
        {12 * MIB - 4096: bytes(4096)},
    ],
)
def test_holes_have_the_chunks_of_the_zeros_that_they_read_as(tmp_path, cut, islands):
    path = tmp_path / "sparse"
    content = sparse(path, 12 * MIB, islands)
    assert path.stat().st_blocks * chunks.SECTOR < 12 * MIB
    found = cut_path(path)
    assert found == cut(content)
    for limit in (MIB, 5 * MIB):
        assert cut_path(path, limit=limit) == cut(content, limit=limit)


def test_a_part_of_a_file_with_holes_has_no_bytes(tmp_path):
    path = tmp_path / "sparse"
    sparse(path, 12 * MIB, {9 * MIB: noise(2 * MIB)})
    with opened(path) as fd:
        part = chunk_part(fd, offset=0, limit=5 * MIB)
        cuts = list(chunk_file(fd, limit=5 * MIB))
    assert part == ([chunk for _, chunk in cuts], None)


def test_holes_are_not_read(tmp_path):
    path = tmp_path / "vast"
    sparse(path, 64 * MIB, {0: noise(10_000)})
    os.truncate(path, 2 * 1024 * MIB)
    before = read_by_us()
    found = cut_path(path)
    assert read_by_us() - before < 16 * MIB
    assert sum(chunk.length for _, chunk in found) == 2 * 1024 * MIB


def read_by_us() -> int:
    """Give the bytes that this process has had from read(2) and its kin."""
    with open("/proc/self/io") as file:
        return int(file.readline().removeprefix("rchar: "))


# -- whole files, and threads


def test_a_files_digest_is_that_of_its_only_chunk_or_of_all_of_them():
    small, large = noise(SMALL), noise(5 * MIB)
    assert content_digest(chunk_bytes(small)) == blake3(small).digest()
    joined = b"".join(one.digest for one in chunk_bytes(large))
    assert content_digest(chunk_bytes(large)) == blake3(joined).digest()
    assert content_digest(()) == blake3(b"").digest()


def test_other_threads_run_while_one_cuts(tmp_path):
    """The lock of the interpreter is let go: an event loop is not stuck."""
    path = tmp_path / "content"
    path.write_bytes(noise(32 * MIB))
    done = threading.Event()
    turns = 0

    def cut_it() -> None:
        cut_path(path)
        done.set()

    thread = threading.Thread(target=cut_it)
    thread.start()
    while not done.is_set():
        time.sleep(0.0002)
        turns += 1
    thread.join()
    assert turns > 10
