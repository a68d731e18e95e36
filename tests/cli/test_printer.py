"""Live output of several hosts: prefixes, streams, lines that are rewritten."""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from mlepool.cli.colours import of_host
from mlepool.cli.printer import Printer
from mlepool.client.listening.lines import LineDecoder
from mlepool.wire.records import STDERR, STDOUT, Record


class Screen(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def in_colour(name: str) -> str:
    return f"\x1b[{of_host(name)}m{name}\x1b[0m"


def lines(raw: bytes, stream: int = STDOUT) -> list[Any]:
    """What a job's output is to a reader, if the process was read once."""
    decoder = LineDecoder()
    return [*decoder.decode([Record(1.0, stream, raw)]), *decoder.finish()]


def states(raw: bytes) -> list[Any]:
    """The states of a line that is not ended yet."""
    pause = Record(2.0, STDOUT, b"")
    return list(LineDecoder().decode([Record(1.0, STDOUT, raw), pause]))


def test_one_host_has_no_prefix_and_its_output_comes_out_as_it_was(capsys):
    Printer([]).print("alpha", lines(b"one\n\nthree without an end"))
    assert capsys.readouterr().out == "one\n\nthree without an end"


def test_prefixes_are_of_one_width(capsys):
    printer = Printer(["a", "beta"])
    printer.print("a", lines(b"one\ntwo\n"))
    printer.print("beta", lines(b"three\n"))
    assert capsys.readouterr().out == "a    | one\na    | two\nbeta | three\n"


def test_a_line_without_an_end_is_ended_before_another_host_speaks(capsys):
    printer = Printer(["a", "b"])
    printer.print("a", lines(b"half"))
    printer.print("b", lines(b"whole\n"))
    assert capsys.readouterr().out == "a | half\nb | whole\n"


def test_stderr_goes_to_stderr(capsys):
    printer = Printer(["a", "b"])
    printer.print("a", [*lines(b"fine\n"), *lines(b"odd\n", STDERR)])
    assert capsys.readouterr() == ("a | fine\n", "a | odd\n")


def test_stderr_does_not_overtake_stdout_where_both_go_to_one_file(tmp_path):
    path = tmp_path / "both"
    printed = [*lines(b"1\n"), *lines(b"2\n", STDERR), *lines(b"3\n")]
    with (
        open(path, "a") as out,
        open(path, "a") as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        Printer([]).print("a", printed)
    assert path.read_text() == "1\n2\n3\n"


def test_complaints_name_the_host_and_us(capsys):
    Printer(["a", "b"]).complain("b", "no such thing")
    Printer([]).complain("c", "nor this")
    assert capsys.readouterr() == (
        "",
        "b | mlepool: no such thing\nmlepool: nor this\n",
    )


def test_in_a_pipe_only_the_last_state_of_a_line_is_printed(capsys):
    Printer(["a", "b"]).print("a", [*states(b"10%\r20%\r"), *lines(b"10%\r100%\n")])
    assert capsys.readouterr().out == "a | 100%\n"


def test_on_a_terminal_a_line_is_rewritten_in_place(screen):
    with redirect_stdout(screen):
        printer = Printer([])
        printer.print("a", states(b"10%\r"))
        printer.print("a", states(b"20%\r"))
        printer.print("a", lines(b"20%\r100%\n"))
    assert screen.getvalue() == "\r\x1b[K10%\r\x1b[K20%\r\x1b[K100%\n"


def test_another_hosts_line_takes_the_place_of_a_state(screen):
    with redirect_stdout(screen):
        printer = Printer(["a", "b"])
        printer.print("a", states(b"10%\r"))
        printer.print("b", lines(b"hello\n"))
    written = screen.getvalue()
    assert written.endswith(f"10%\r\x1b[K{in_colour('b')} | hello\n")


def test_a_state_is_cut_to_the_screen_so_that_it_can_be_rewritten(screen):
    with redirect_stdout(screen):
        Printer(["alpha", "b"]).print("alpha", states(b"x" * 200 + b"\r"))
    visible = screen.getvalue().removeprefix(f"\r\x1b[K{in_colour('alpha')}")
    assert visible == " | " + "x" * (79 - len("alpha | "))


def test_prefixes_have_colours_on_a_terminal_unless_they_are_not_wanted(
    screen, monkeypatch
):
    with redirect_stdout(screen):
        Printer(["a", "b"]).print("b", lines(b"one\n"))
        monkeypatch.setenv("NO_COLOR", "1")
        Printer(["a", "b"]).print("b", lines(b"two\n"))
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        Printer(["a", "b"]).print("b", lines(b"three\n"))
    assert screen.getvalue() == f"{in_colour('b')} | one\nb | two\nb | three\n"


def test_a_host_has_its_colour_in_any_company_and_where_it_is_forced(
    capsys, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for names in (["a", "b"], ["b", "c", "d"]):
        Printer(names).print("b", lines(b"one\n"))
    Printer(["a", "b"]).complain("b", "odd")
    assert capsys.readouterr() == (
        f"{in_colour('b')} | one\n" * 2,
        f"{in_colour('b')} | mlepool: odd\n",
    )


def test_there_are_colours_for_any_number_of_hosts(screen):
    names = [f"host{number}" for number in range(20)]
    with redirect_stdout(screen):
        printer = Printer(names)
        for name in names:
            printer.print(name, lines(b"up\n"))
    assert screen.getvalue().count("m | up\n") == 20
