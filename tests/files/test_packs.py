"""Pieces packed for their way, and what hostile ones unpack to."""

import os
import resource
import threading

import pytest
import zstandard
from hypothesis import given, strategies as st

from mlepool.files.base import Piece
from mlepool.files.packs import (
    LEAST,
    MISSES,
    PROBE,
    SAMPLE,
    Packing,
    make_piece,
    pack,
    pays,
    unpack,
)

TEXT = b"It was the best of times, it was the worst of times. " * 2_000


def test_what_is_packed_unpacks_to_itself():
    packed = pack(TEXT)
    assert packed is not None
    assert len(packed) < len(TEXT) // 10
    assert unpack(packed, len(TEXT)) == TEXT


@pytest.mark.parametrize("data", [b"", b"a" * (LEAST - 1), os.urandom(100_000)])
def test_what_does_not_shrink_is_left_as_it_is(data):
    assert pack(data) is None
    assert make_piece(3, 7, data, is_packing=True) == Piece(3, 7, data)


def test_a_piece_is_packed_if_that_is_wanted():
    piece = make_piece(3, 7, TEXT, is_packing=True)
    assert (piece.number, piece.offset, piece.packed) == (3, 7, len(TEXT))
    assert unpack(piece.data, piece.packed) == TEXT
    assert make_piece(3, 7, TEXT, is_packing=False) == Piece(3, 7, TEXT)


def test_where_no_small_file_shrinks_few_are_tried_until_one_does():
    packing, noise = Packing(), os.urandom(1000)
    for number in range(MISSES):
        assert packing.make_piece(number, noise) == Piece(number, 0, noise)
    is_packed = [packing.make_piece(1, TEXT).packed > 0 for _ in range(PROBE)]
    assert all(is_packed)  # the first one was tried, and showed that it pays
    for number in range(MISSES + 1):
        packing.make_piece(number, noise)
    is_packed = [packing.make_piece(1, TEXT).packed > 0 for _ in range(PROBE)]
    assert is_packed == [*[False] * (PROBE - 1), True]


def test_a_files_beginning_tells_if_packing_pays():
    assert pays(TEXT)
    assert not pays(os.urandom(SAMPLE))
    assert not pays(zstandard.ZstdCompressor().compress(os.urandom(SAMPLE) + TEXT))
    assert not pays(os.urandom(SAMPLE) + TEXT)  # what follows is not looked at
    assert not pays(b"")


def frame(data: bytes, **options) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        frame(TEXT)[:-5],
        frame(TEXT)[:3],
        frame(TEXT) + b"more",
        frame(TEXT) + frame(TEXT),
        frame(TEXT[:-1]),
        frame(TEXT + b"!"),
        frame(TEXT, write_content_size=False),
        TEXT,
    ],
)
def test_what_is_no_frame_of_that_size_is_refused(data):
    with pytest.raises(ValueError, match="piece"):
        unpack(data, len(TEXT))


def test_a_bomb_does_not_go_off():
    bomb = frame(bytes(1 << 30))
    assert len(bomb) < 50_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="says 1073741824 bytes"):
        unpack(bomb, 112 * 1024)
    lying = forged(bomb, 5000)
    with pytest.raises(ValueError, match="piece"):
        unpack(lying, 5000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB


def forged(packed: bytes, size: int) -> bytes:
    """Have a frame say another size."""
    says = zstandard.frame_content_size(packed).to_bytes(4, "little")
    at = packed.index(says)
    return packed[:at] + size.to_bytes(4, "little") + packed[at + 4 :]


@given(st.binary(max_size=300), st.integers(0, 1000))
def test_random_bytes_unpack_to_what_was_said_or_are_refused(data, size):
    for tried in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            unpacked = unpack(tried, size)
        except ValueError:
            continue
        assert len(unpacked) == size


def test_threads_pack_at_the_same_time():
    found = []

    def work(seed: int) -> None:
        text = TEXT + bytes([seed])
        for _ in range(50):
            packed = pack(text)
            found.append(packed is not None and unpack(packed, len(text)) == text)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 200
