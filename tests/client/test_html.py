"""HTML of text that may be anything: it stays text."""

import html.parser
import re

import pytest

from mlepool.client.html import (
    SHORT,
    STYLE,
    Cell,
    clean,
    line_of,
    output_block,
    page,
    progress_bar,
    table,
)

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Reader(html.parser.HTMLParser):
    """Notes which tags there are, with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "made",
    [
        clean(EVIL),
        page(line_of([EVIL, Cell(EVIL, "status"), Cell(EVIL, "code")])),
        table((EVIL,), [(EVIL,), (Cell(EVIL, "why"),)]),
        output_block([("stderr", EVIL), ("stdout", EVIL)], more=2),
        progress_bar(5.0, EVIL),
    ],
)
def test_markup_in_what_is_shown_is_text(made):
    reader = Reader(made)
    assert EVIL in reader.text
    assert not {"script", "img"} & reader.tags
    assert reader.attributes <= {"class", "max", "value"}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b(Bb\x1bc", "ab"),
        ("nul\x00bell\x07", "nul\u2400bell\u2407"),
        ("tab\tstays", "tab\tstays"),
        ("back\x08", "back\u2408"),
        ("c1\x9b31m", "c1\ufffd31m"),
        ("turned \u202eback", "turned \ufffdback"),
        ("half \ud800", "half \ufffd"),
    ],
)
def test_what_a_terminal_would_obey_is_gone_or_seen(text, seen):
    assert clean(text) == seen


def test_stderr_is_told_apart():
    made = output_block([("stdout", "fine"), ("stderr", "odd")])
    assert '<span class="err">odd</span>' in made
    assert ">fine<" not in made


def test_nothing_makes_no_empty_boxes():
    assert output_block([]) == ""
    assert line_of(["", Cell("", "why")]) == ""


def test_a_bar_stays_within_its_bounds():
    assert 'value="100"' in progress_bar(250.0)
    assert "<progress" not in progress_bar(None, "3 of ?")


def test_only_long_cells_of_a_table_have_more_than_a_line_or_break_words():
    short = ["SUCCEEDED", Cell("RUNNING", "status"), "2026-11-23 06:20:00", "x" * SHORT]
    made = table((), [[*short, "x" * (SHORT + 1), Cell("a b " * 20, "why"), None]])
    assert re.findall("<td[^>]*>", made) == ["<td>"] * 4 + ['<td class="l">'] * 2 + [
        "<td>"
    ]
    rules = re.findall(r"([^{}]+){([^{}]+)}", STYLE)
    (cells,) = (rule for where, rule in rules if where.endswith(".mlepool td"))
    assert "white-space:nowrap" in cells
    assert "overflow-wrap" not in cells
    # ``anywhere`` lets a column be as narrow as a letter, if nothing else says no.
    (long,) = (rule for where, rule in rules if where.endswith("td.l"))
    assert {"white-space:normal", "overflow-wrap:anywhere"} < set(long.split(";"))
    assert "min-width" in long
