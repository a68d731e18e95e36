"""Signals: however they are said, one name."""

import signal

import pytest

from mlepool.signals import signal_name


@pytest.mark.parametrize("said", ["SIGTERM", "TERM", "term", signal.SIGTERM, 15])
def test_a_signal_has_one_name(said):
    assert signal_name(said) == "SIGTERM"


def test_what_is_not_known_here_may_be_known_there():
    assert signal_name("lost") == "SIGLOST"


@pytest.mark.parametrize("said", [None, True, 1.0, b"INT"])
def test_what_can_be_no_signal_is_a_type_error(said):
    with pytest.raises(TypeError, match="a signal is a name as 'SIGTERM'"):
        signal_name(said)


@pytest.mark.parametrize("number", [0, -1, 999])
def test_a_number_that_is_none_is_said(number):
    with pytest.raises(ValueError, match=f"there is no signal {number}"):
        signal_name(number)
