"""Hosts with identical output together, as ``clush -b`` and ``dshbak -c`` do it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mlepool.cli.colours import are_wanted, coloured
from mlepool.cli.outputs import Live
from mlepool.cli.wording import complain
from mlepool.client.inventory.ranges import fold

__all__ = ["Gathered", "alike"]

MAX_KEPT = 16 * 1024 * 1024  # characters of one host's output
RULE = "-" * 15
COLOURS = {"+": 32, "-": 31, "@": 36}  # SGR codes of lines of a diff


class Alike(NamedTuple):
    """Hosts that have printed the same.

    Attributes:
        names: The hosts.
        lines: What they printed.
    """

    names: list[str]
    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        """The hosts as short as they can be written, and how many they are."""
        count = f" ({len(self.names)})" if len(self.names) > 1 else ""
        return f"{fold(self.names)}{count}"


class Gathered(Live):
    """Keeps what hosts print to stdout, and prints it at the end, by content.

    What they print to stderr is printed as it comes.

    Args:
        names: The hosts.
        as_diff: Of all but the most frequent output print only what differs from it.
    """

    def __init__(self, names: Sequence[str], *, as_diff: bool = False) -> None:
        super().__init__(names)
        self._as_diff = as_diff
        self._lines: dict[str, list[str]] = {name: [] for name in names}
        self._room = dict.fromkeys(names, MAX_KEPT)
        self._left_out: list[str] = []

    def print(self, name: str, messages: Iterable[Any]) -> None:
        """Keep what goes to stdout; of a line that is rewritten only the last state."""
        for one in messages:
            if one.stream == "stderr":
                super().print(name, [one])
            elif getattr(one, "end", "\n") != "\r":
                self._keep(name, str(one))

    def close(self) -> None:
        """Print what there is. Twice is fine."""
        found = alike(self._lines)
        self._lines = {}
        for number, group in enumerate(found):
            if self._as_diff and number:
                _print_diff(found[0], group)
            else:
                print(RULE, group.title, RULE, *group.lines, sep="\n")
        sys.stdout.flush()
        for name in self._left_out:
            complain(f"{name}: only its first {MAX_KEPT} characters are compared")
        self._left_out = []

    def _keep(self, name: str, line: str) -> None:
        self._room[name] -= len(line) + 1
        if self._room[name] >= 0:
            self._lines[name].append(line)
        elif name not in self._left_out:
            self._left_out.append(name)


def alike(outputs: dict[str, list[str]]) -> list[Alike]:
    """Group hosts by what they printed; the most frequent first, the silent not."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, lines in outputs.items():
        if lines:
            groups.setdefault(tuple(lines), []).append(name)
    found = [Alike(names, lines) for lines, names in groups.items()]
    return sorted(found, key=lambda one: -len(one.names))


def _print_diff(first: Alike, other: Alike) -> None:
    lines = difflib.unified_diff(
        first.lines, other.lines, first.title, other.title, lineterm=""
    )
    has_colours = are_wanted(sys.stdout)
    for line in lines:
        code = COLOURS.get(line[:1]) if has_colours else None
        print(line if code is None else coloured(line, code))
