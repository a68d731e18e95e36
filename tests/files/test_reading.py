"""How often what is sent of a file is read."""

import itertools
import os
from pathlib import Path

import pytest

from mlepool.files.base import Chunk, Offer, SourceOptions
from mlepool.files.chunks import LARGEST
from mlepool.files.reading import PART, TreeReader
from mlepool.tree import FILE, Entry


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("size", [100_000, PART, 2 * PART + 5])
def test_what_was_read_to_be_described_is_not_read_again(tmp_path, *, size, is_shared):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    stat = (tmp_path / "file").stat()
    entry = Entry(b"file", FILE, 0o644, size, stat.st_mtime_ns)
    reader = TreeReader(os.fsencode(tmp_path), SourceOptions(), is_shared=is_shared)
    before = bytes_read()
    lengths = [one.length for one in described(reader, entry)]
    begins = itertools.accumulate(lengths, initial=0)
    ranges = list(zip(begins, lengths, strict=False))
    sent = reader.read(entry, 5, ranges=ranges, pack=False)
    behind = 2 * LARGEST if size > PART else 0  # tells where a part ends
    assert bytes_read() - before < size + behind + 10_000  # pytest reads, too
    again = reader.read(entry, 5, ranges=ranges, pack=False)
    reader.close()
    for pieces in (sent, again):
        assert isinstance(pieces, list)
        assert b"".join(one.data for one in pieces) == content


def described(reader: TreeReader, entry: Entry) -> list[Chunk]:
    """Describe a file part by part."""
    chunks: list[Chunk] = []
    is_last = False
    while not is_last:
        offset = sum(one.length for one in chunks)
        offer = reader.describe(entry, 5, offset=offset)
        assert isinstance(offer, Offer)
        chunks += offer.chunks
        is_last = offer.is_last
    return chunks


def bytes_read() -> int:
    """Give the bytes that this process has had from read(2) and its kin."""
    return int(Path("/proc/self/io").read_text().split()[1])
