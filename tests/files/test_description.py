"""What a file consists of, part by part."""

import os

import pytest
from blake3 import blake3

from mlepool.files.base import Chunk
from mlepool.files.description import PART_CHUNKS, Description


def make(tmp_path, size: int) -> Description:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, size)
    return Description(path.stat(), 5)


def chunks_of(count: int) -> list[Chunk]:
    return [Chunk(blake3(b"%d" % n).digest(), 100 + n % 7) for n in range(count)]


def test_parts_join_to_what_was_added_and_are_not_too_large(tmp_path):
    chunks = chunks_of(2 * PART_CHUNKS + 10)
    size = sum(one.length for one in chunks)
    found = make(tmp_path, size)
    found.add(chunks[:7])
    assert not found.is_whole
    found.add(chunks[7:])
    assert (found.end, found.is_whole) == (size, True)
    joined: list[Chunk] = []
    while part := found.part(sum(one.length for one in joined)):
        assert len(part) <= PART_CHUNKS
        joined += part
    assert joined == chunks


@pytest.mark.parametrize("offset", [1, 99, 101, 207, 10_000])
def test_a_part_begins_where_a_chunk_does(tmp_path, offset):
    found = make(tmp_path, 1000)
    found.add(chunks_of(2))
    assert found.end == 201
    with pytest.raises(ValueError, match=f"no chunk begins at {offset}"):
        found.part(offset)
    assert found.part(201) == ()


def test_an_empty_file_is_whole_from_the_beginning(tmp_path):
    found = make(tmp_path, 0)
    assert found.is_whole
    assert found.part(0) == ()
