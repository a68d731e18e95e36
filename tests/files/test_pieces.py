"""Bytes of files, in pieces for their way."""

import os
import weakref

import pytest

from mlepool.files.pieces import BARE_PIECE, PIECE, READ, OpenFile, Pieces

SIZE = 3 * BARE_PIECE + 1


@pytest.mark.parametrize(
    ("is_shared", "pack", "most"),
    [
        (False, True, PIECE),
        (False, False, BARE_PIECE),
        (True, True, PIECE),
        (True, False, PIECE),  # held for those who want it packed, and the other way
    ],
)
def test_pieces_are_larger_where_nobody_wants_them_packed(
    tmp_path, *, is_shared, pack, most
):
    content = os.urandom(SIZE)
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as opened:
        fd = opened.fileno()
        file = OpenFile(b"file", fd, os.fstat(fd), 0)
        pieces = Pieces(is_shared=is_shared)
        found = list(pieces.of_ranges(file, 7, [(0, SIZE)], pack=pack))
    assert b"".join(one.data for one in found) == content
    assert {len(one.data) for one in found[:-1]} == {most}


class Buffer(bytearray):
    """Says by a weak reference if it is still there."""


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_is_asked_for_in_part_does_not_hold_all_that_was_read(
    tmp_path, *, is_shared
):
    path = tmp_path / "file"
    path.write_bytes(bytes(PIECE))
    size, buffers = READ // 4, []
    with path.open("rb") as opened:
        fd = opened.fileno()
        file = OpenFile(b"file", fd, os.fstat(fd), 0)
        pieces = Pieces(is_shared=is_shared)
        for number in range(12):
            buffer = Buffer(size)
            buffers.append(weakref.ref(buffer))
            pieces.hold(file, number * size, memoryview(buffer))
            del buffer
            some = pieces.of_ranges(file, 1, [(number * size, PIECE)], pack=False)
            assert [len(one.data) for one in some] == [PIECE]
            del some
    assert sum(one() is not None for one in buffers) == READ // size
    pieces.clear()
    assert not any(one() for one in buffers)
