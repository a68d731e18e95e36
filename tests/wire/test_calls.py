import pytest

from mlepool.errors import RemoteProtocolError
from mlepool.wire.calls import CallTable


def test_calls_are_found_by_number_until_they_are_closed():
    table: CallTable[str] = CallTable()
    table.open(1, "one")
    table.open(2, "two")
    assert table.get(1) == "one"
    assert list(table) == ["one", "two"]
    assert len(table) == 2
    assert table.close(1) == "one"
    assert table.get(1) is None
    assert not table.is_open(1)
    assert table.is_open(2)


def test_closing_twice_is_fine():
    table: CallTable[str] = CallTable()
    table.open(1, "one")
    assert table.close(1) == "one"
    assert table.close(1) is None
    assert table.close(99) is None


@pytest.mark.parametrize("number", [1, 2, 0, -1])
def test_a_number_is_never_used_again(number):
    table: CallTable[str] = CallTable()
    table.open(2, "two")
    table.close(2)
    with pytest.raises(RemoteProtocolError, match=f"call {number} was opened before"):
        table.open(number, "again")


def test_numbers_may_be_skipped_but_only_grow():
    table: CallTable[str] = CallTable()
    assert table.next_number() == 1
    table.open(7, "seven")
    assert table.next_number() == 8
    assert table.get(3) is None  # it may have been; it is not an error


@pytest.mark.parametrize("number", [0, -1, 3, 2**32])
def test_a_frame_for_a_call_that_never_was_is_an_error(number):
    table: CallTable[str] = CallTable()
    table.open(2, "two")
    with pytest.raises(RemoteProtocolError, match=f"there never was a call {number}"):
        table.get(number)


def test_an_open_call_may_have_nothing_yet_and_something_later():
    table: CallTable[str | None] = CallTable()
    table.open(1, None)
    assert table.is_open(1)
    assert table.get(1) is None
    table.replace(1, "reader")
    assert table.get(1) == "reader"


def test_calls_may_be_closed_while_they_are_gone_through():
    table: CallTable[int] = CallTable()
    for number in (1, 2, 3):
        table.open(number, number)
    for number in table:
        table.close(number)
    assert len(table) == 0
