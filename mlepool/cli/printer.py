"""Live output of several hosts on one terminal: whole lines, each with its host."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

__all__ = ["Printer"]

COLOURS = (36, 33, 35, 32, 34, 31)  # SGR codes: cyan first, red last
SEPARATOR = " | "


class Printer:
    """Prints messages as they come.

    On a terminal a rewritten line (a progress bar) is shown in place while it is the
    last one on the screen; where output is piped, only its final state is printed.

    Args:
        names: The hosts, for prefixes of one width; none for no prefixes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        width = max(map(len, names), default=0)
        self._in_place = sys.stdout.isatty()
        coloured = self._in_place and not os.environ.get("NO_COLOR")
        self._prefixes = {
            name: _prefix(
                name.ljust(width), COLOURS[i % len(COLOURS)] if coloured else 0
            )
            for i, name in enumerate(names)
        }
        self._prefix_width = width + len(SEPARATOR) if names else 0
        self._shows_state = False

    def print(self, name: str, messages: Iterable[Any]) -> None:
        """Print one host's messages; stderr goes to stderr."""
        for message in messages:
            end = getattr(message, "end", "\n")
            prefix = self._prefixes.get(name, "")
            if end == "\r":
                self._show_state(prefix, message)
            else:
                file = sys.stderr if message.stream == "stderr" else sys.stdout
                # A part of a line ends a line here: another host may come next.
                end = "\n" if self._prefixes else end
                self._write(f"{prefix}{message}{end}", file)
        sys.stdout.flush()

    def say(self, name: str, *lines: str) -> None:
        """Print lines about a host, of our own."""
        prefix = self._prefixes.get(name, "")
        self._write("".join(f"{prefix}{line}\n" for line in lines), sys.stdout)
        sys.stdout.flush()

    def complain(self, name: str, text: str) -> None:
        """Print what went wrong with a host."""
        self._write(f"{self._prefixes.get(name, '')}mlepool: {text}\n", sys.stderr)

    def _show_state(self, prefix: str, text: str) -> None:
        if self._in_place:
            # Cut to the screen: only what has not wrapped can be rewritten.
            room = shutil.get_terminal_size().columns - self._prefix_width - 1
            sys.stdout.write(f"\r\x1b[K{prefix}{text[: max(0, room)]}")
            self._shows_state = True

    def _write(self, text: str, file: TextIO) -> None:
        if self._shows_state:
            sys.stdout.write("\r\x1b[K")
            self._shows_state = False
        if file is sys.stderr:
            sys.stdout.flush()  # what came before is seen before, in one file too
        file.write(text)
        if file is sys.stderr:
            file.flush()


def _prefix(text: str, colour: int) -> str:
    return (f"\x1b[{colour}m{text}\x1b[0m" if colour else text) + SEPARATOR
