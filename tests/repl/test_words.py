"""What stands after %on, %%on and :on."""

import pytest

from mlepool.repl.words import OnLine, is_on


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (" gpu1", ("gpu1", "", "")),
        ("gpu[1-4],!gpu3  make -j8 'a b'", ("gpu[1-4],!gpu3", "", "make -j8 'a b'")),
        ('-l "gpu=a100,zone in (a,b)" df', ("", "gpu=a100,zone in (a,b)", "df")),
        ("-l zone=a", ("", "zone=a", "")),
    ],
)
def test_hosts_come_first_then_the_command_as_it_is(line, wanted):
    assert OnLine.parse(line) == wanted


@pytest.mark.parametrize("line", ["", "  ", "-x", "-l"])
def test_without_hosts_it_says_how_it_is_used(line):
    with pytest.raises(ValueError, match="on HOSTS"):
        OnLine.parse(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [(":on gpu1", True), ("  :on", True), (":once", False), ("on", False), ("", False)],
)
def test_a_line_for_hosts_is_told_from_others(line, expected):
    assert is_on(line) == expected
