"""Hosts with identical output together."""

import pytest

from mlepool.cli.gather import Gathered, alike
from mlepool.client.listening.lines import LineDecoder
from mlepool.wire.records import STDERR, STDOUT, Record


def lines(raw: bytes, stream: int = STDOUT):
    decoder = LineDecoder()
    return [*decoder.decode([Record(1.0, stream, raw)]), *decoder.finish()]


def test_the_most_frequent_is_first_and_who_said_nothing_is_not_there():
    outputs = {"a1": ["x"], "b": [], "a2": ["y"], "a3": ["y"]}
    assert [(one.title, one.lines) for one in alike(outputs)] == [
        ("a[2-3] (2)", ("y",)),
        ("a1", ("x",)),
    ]


def test_output_is_printed_at_the_end_once_for_all_who_have_the_same(capsys):
    shown = Gathered(["n1", "n2", "n3"])
    for name in ("n3", "n1", "n2"):
        shown.print(name, lines(b"Linux\nup\n" if name != "n2" else b"Linux\n"))
    shown.print("n2", lines(b"odd\n", STDERR))
    assert capsys.readouterr() == ("", "n2 | odd\n")
    shown.close()
    shown.close()
    rule = "-" * 15
    assert capsys.readouterr().out.splitlines() == [
        *(rule, "n[1,3] (2)", rule, "Linux", "up"),
        *(rule, "n2", rule, "Linux"),
    ]


def test_what_differs_is_shown_as_a_diff(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    shown = Gathered(["n1", "n2", "n3"], as_diff=True)
    for name in ("n1", "n2", "n3"):
        shown.print(name, lines(b"one\ntwo\n" if name != "n2" else b"one\n2\n"))
    shown.close()
    *first, _, _, place, same, old, new = capsys.readouterr().out.splitlines()
    assert first == ["-" * 15, "n[1,3] (2)", "-" * 15, "one", "two"]
    assert (place, same, old, new) == ("@@ -1,2 +1,2 @@", " one", "-two", "+2")


def test_of_a_host_that_prints_very_much_the_beginning_is_kept(capsys, monkeypatch):
    monkeypatch.setattr("mlepool.cli.gather.MAX_KEPT", 8)
    shown = Gathered(["n1", "n2"])
    shown.print("n1", lines(b"abc\ndef\n" + b"g\n" * 9))
    shown.print("n2", lines(b"abc\ndef\n"))
    shown.close()
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["n[1-2] (2)", "-" * 15, "abc", "def"]
    assert err == "mlepool: n1: only its first 8 characters are compared\n"


@pytest.mark.parametrize("names", [["only"]])
def test_a_single_host_has_its_name_too(names, capsys):
    shown = Gathered(names)
    shown.print("only", lines(b"x\n"))
    shown.close()
    assert capsys.readouterr().out.splitlines()[1] == "only"
