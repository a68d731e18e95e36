"""Bytes from file to file, and zeros that become holes."""

import os
import random

import pytest
from hypothesis import given, strategies as st

from mlepool.files.copying import HOLE, copy_range, read_at, write_at, write_sparse


@pytest.fixture
def fd(tmp_path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([1, 100, HOLE - 1, HOLE, HOLE + 1, 2 * HOLE + 5]),
        ),
        max_size=6,
    )
)
def test_whatever_is_written_sparsely_is_read_back(runs):
    data = b"".join((b"x" if is_data else b"\0") * count for is_data, count in runs)
    fd = os.memfd_create("test")
    try:
        write_sparse(fd, data, 7)
        os.ftruncate(fd, 7 + len(data))
        assert os.pread(fd, len(data) + 8, 0) == bytes(7) + data
    finally:
        os.close(fd)


@pytest.mark.parametrize("before", [0, 1, 4096, HOLE - 1, HOLE, 100_000])
def test_long_runs_of_zeros_take_no_room(fd, before):
    data = b"x" * before + bytes(20 * HOLE) + b"y"
    write_sparse(fd, data, 0)
    assert os.pread(fd, len(data), 0) == data
    assert os.fstat(fd).st_blocks * 512 <= before + 3 * 4096


def test_ranges_are_copied_and_what_is_not_there_is_an_error(fd, tmp_path):
    data = random.Random(2).randbytes(3_000_000)
    (tmp_path / "source").write_bytes(data)
    with open(tmp_path / "source", "rb") as source:
        copy_range(source.fileno(), fd, begin=1000, at=50, length=2_500_000)
        assert os.pread(fd, 3_000_000, 0) == bytes(50) + data[1000:2_501_000]
        with pytest.raises(OSError, match="shorter"):
            copy_range(source.fileno(), fd, begin=2_900_000, at=0, length=200_000)


def test_ranges_are_copied_between_file_systems_that_can_not(fd):
    source = os.memfd_create("test")
    try:
        write_at(source, b"0123456789", 0)
        copy_range(source, fd, begin=2, at=0, length=8)
        assert read_at(fd, 0, 100) == b"23456789"
    finally:
        os.close(source)
