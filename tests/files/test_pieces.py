"""Bytes of files, in pieces for their way."""

import os

import pytest

from mlepool.files.pieces import BARE_PIECE, PIECE, OpenFile, Pieces

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
