"""What was written last is at hand while it is little, and never something else."""

from hypothesis import given, strategies as st

from mlepool.supervisor.fresh import MOST_FRESH, Fresh

PIECES = st.lists(st.binary(max_size=MOST_FRESH * 2), max_size=6)


@given(st.lists(PIECES, max_size=6))
def test_it_is_all_that_was_written_since_or_nothing(turns):
    fresh = Fresh()
    for pieces in turns:
        for piece in pieces:
            fresh.add(piece[:3], memoryview(piece)[3:])
        whole = b"".join(pieces)
        assert fresh.take() == (whole if len(whole) <= MOST_FRESH else b"")


def test_what_others_have_written_is_not_known():
    fresh = Fresh()
    fresh.add(b"ours", b"")
    fresh.lose()
    fresh.add(b"behind ", b"theirs")
    assert fresh.take() == b""
    fresh.add(b"and ", b"then")
    assert fresh.take() == b"and then"
