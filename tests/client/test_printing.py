"""Messages are printed as they are, or as near as the terminal can."""

import io
import sys

import pytest

from mlepool.client.listening.lines import Line
from mlepool.client.printing import print_message


@pytest.mark.parametrize(
    ("encoding", "seen"), [("utf-8", "ü ✓\n"), ("cp1252", "ü \\u2713\n")]
)
def test_what_a_terminal_does_not_have_is_escaped(encoding, seen, monkeypatch):
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding, newline="\n"))
    print_message(Line("ü ✓"))
    assert file.getvalue().decode(encoding) == seen
