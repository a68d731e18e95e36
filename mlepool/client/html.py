"""HTML for notebooks: what is given is text, and is never taken for markup.

No scripts. Colours are those of the notebook where it names some, and else such as can
be read on light and on dark.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = [
    "SHORT",
    "STYLE",
    "Cell",
    "clean",
    "line_of",
    "output_block",
    "page",
    "progress_bar",
    "table",
]

# Said with twice the class: notebooks have rules of their own for tables and code.
STYLE = """\
.mlepool.mlepool{font-size:13px;line-height:1.45}
.mlepool.mlepool .s{font-weight:600;font-size:11px;padding:1px 6px;border-radius:3px;
background:rgba(128,128,128,.25);white-space:nowrap}
.mlepool.mlepool .good{color:#fff;background:#2e7d46}
.mlepool.mlepool .bad{color:#fff;background:#b93a32}
.mlepool.mlepool .busy{color:#fff;background:#2f6fb5}
.mlepool.mlepool .warn{color:#fff;background:#a2670d}
.mlepool.mlepool .dim{opacity:.65}
.mlepool.mlepool code,.mlepool.mlepool pre{color:inherit;
font-family:var(--jp-code-font-family,monospace);font-size:12px}
.mlepool.mlepool code{background:none;padding:0}
.mlepool.mlepool .why,.mlepool.mlepool .err{color:var(--jp-error-color1,#d0504a)}
.mlepool.mlepool progress{height:9px;width:180px;vertical-align:middle}
.mlepool.mlepool pre{margin:4px 0 0;padding:6px 9px;overflow:auto;max-height:34em;
white-space:pre-wrap;overflow-wrap:anywhere;border-radius:3px;
background:rgba(128,128,128,.1);border:1px solid rgba(128,128,128,.25)}
.mlepool.mlepool table{border-collapse:collapse;margin:4px 0 0;border:none;
color:inherit;font-size:inherit}
.mlepool.mlepool th,.mlepool.mlepool td{text-align:left;padding:2px 14px 2px 4px;
border:none;border-bottom:1px solid rgba(128,128,128,.25);vertical-align:top;
max-width:60em;white-space:nowrap;color:inherit}
.mlepool.mlepool th{font-weight:600;opacity:.75}
.mlepool.mlepool td.n{text-align:right}
.mlepool.mlepool td.l{white-space:normal;overflow-wrap:anywhere;
min-width:15em}""".replace("\n", "")

SHORT = 24  # characters of a cell that stay in one line, however narrow the page is

DOT = ' <span class="dim">·</span> '

# Words of a status, and how they are shown; what is not here is plain.
LOOKS = {
    **dict.fromkeys(("SUCCEEDED", "connected", "idle"), "good"),
    **dict.fromkeys(("FAILED", "LOST", "TIMED_OUT", "lost", "UNREACHABLE"), "bad"),
    **dict.fromkeys(("RUNNING", "running"), "busy"),
    **dict.fromkeys(("STOPPED", "reconnecting", "skipped"), "warn"),
}

# What has a meaning in HTML, and what is not to be seen, or turns text around.
_SHOWN = {
    **{code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),  # halves of characters
    **{ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"},
    **{ord('"'): "&quot;", ord("'"): "&#x27;"},
}


@functools.cache
def _escapes() -> re.Pattern[str]:
    """Give what terminals obey and do not show: colours, movements, titles."""
    command, text = r"\[[0-?]*[ -/]*[@-~]", r"[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)?"
    return re.compile(rf"\x1b(?:{command}|{text}|[ -/]*[0-~])")


class Cell(NamedTuple):
    """A cell that is more than its text.

    Attributes:
        text: What it shows.
        look: ``"status"`` for a word of a status, ``"code"``, ``"dim"``, ``"why"`` for
            an error, ``"number"``; plain by default.
    """

    text: Any
    look: str = ""


def clean(text: object) -> str:
    """Make text harmless and visible: no markup, no escapes, no control characters."""
    return _escapes().sub("", str(text)).translate(_SHOWN)


def page(*parts: str) -> str:
    """Put parts, which are HTML, under each other, with what makes them look right."""
    body = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div class="mlepool"><style>{STYLE}</style>{body}</div>'


def line_of(cells: Iterable[Any]) -> str:
    """Put cells beside each other; those without text are left out."""
    shown = ((one, _inline(one)) for one in cells)
    parts = [(one, text) for one, text in shown if text]
    return "".join(
        # A status has a shape of its own, and needs no dot after it.
        text + (" " if getattr(one, "look", "") == "status" else DOT)
        for one, text in parts
    ).removesuffix(DOT)


def table(headers: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Make a table.

    Args:
        headers: The columns' names; none for no heads.
        rows: Cells: text, or what ``str()`` makes of it, or a :class:`Cell`.
    """
    heads = "".join(f"<th>{clean(one)}</th>" for one in headers)
    top = f"<thead><tr>{heads}</tr></thead>" if heads else ""
    body = "".join(f"<tr>{''.join(map(_table_cell, row))}</tr>" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def output_block(lines: Iterable[tuple[str, str]], *, more: int = 0) -> str:
    """Show the last lines of output.

    Args:
        lines: The stream of each, and its text; stderr is coloured.
        more: Lines before them that are not shown; -1 for an unknown number.
    """
    shown = [_output_line(stream, text) for stream, text in lines]
    if not shown:
        return ""
    count = f"{more:,} lines" if more > 0 else "more"
    before = f'<span class="dim">... {count} before</span>\n' if more else ""
    return f"<pre>{before}{chr(10).join(shown)}</pre>"


def progress_bar(percent: float | None, text: str = "") -> str:
    """Show how far something has come; a bar where that is known."""
    bar = ""
    if percent is not None:
        value = min(100.0, max(0.0, percent))
        bar = f'<progress max="100" value="{value:.0f}"></progress> {value:.0f} % '
    return f"{bar}{clean(text)}"


def _inline(cell: Any) -> str:
    text, look = cell if isinstance(cell, Cell) else (cell, "")
    shown = clean(text)
    if not shown:
        return ""
    if look == "status":
        return f'<span class="s {LOOKS.get(str(text), "")}">{shown}</span>'
    if look == "code":
        return f"<code>{shown}</code>"
    return f'<span class="{look}">{shown}</span>' if look in {"dim", "why"} else shown


def _table_cell(cell: Any) -> str:
    text, look = cell if isinstance(cell, Cell) else (cell, "")
    kind = "n" if look == "number" else "l" if len(str(text)) > SHORT else ""
    start = f'<td class="{kind}">' if kind else "<td>"
    return f"{start}{_inline(cell)}</td>"


def _output_line(stream: str, text: str) -> str:
    shown = clean(text)
    return f'<span class="err">{shown}</span>' if stream == "stderr" else shown
