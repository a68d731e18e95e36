"""Colours of hosts, and where there are any."""

import io

import pytest

from mlepool.cli.colours import are_wanted, of_host


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_host_has_one_colour_and_its_neighbours_have_others():
    colours = [of_host(f"gpu{number:02d}") for number in range(1, 11)]
    assert len(set(colours)) == len(colours)
    assert of_host("gpu01") == colours[0]
    assert of_host("") == of_host("")


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, (True, False)),
        ({"NO_COLOR": "1"}, (False, False)),
        ({"FORCE_COLOR": "1"}, (True, True)),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, (False, False)),
        ({"TERM": "dumb"}, (False, False)),
    ],
)
def test_who_wants_none_has_none(env, wanted, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert (are_wanted(Terminal()), are_wanted(io.StringIO())) == wanted
