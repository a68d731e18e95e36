"""Live output of several hosts on one terminal: whole lines, each with its host."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from mlepool.cli.colours import are_wanted, coloured, of_host

__all__ = ["Printer", "prefixes"]

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
        self._prefixes = {
            "stdout": prefixes(names, sys.stdout),
            "stderr": prefixes(names, sys.stderr),
        }
        self._prefix_width = width + len(SEPARATOR) if names else 0
        self._shows_state = False

    def print(self, name: str, messages: Iterable[Any]) -> None:
        """Print one host's messages; stderr goes to stderr."""
        for message in messages:
            end = getattr(message, "end", "\n")
            if end == "\r":
                self._show_state(self._prefix(name), message)
                continue
            file = sys.stderr if message.stream == "stderr" else sys.stdout
            # A part of a line ends a line here: another host may come next.
            end = "\n" if self._prefix_width else end
            self._write(
                f"{self._prefix(name, str(message.stream))}{message}{end}", file
            )
        sys.stdout.flush()

    def say(self, name: str, *lines: str) -> None:
        """Print lines about a host, of our own."""
        prefix = self._prefix(name)
        self._write("".join(f"{prefix}{line}\n" for line in lines), sys.stdout)
        sys.stdout.flush()

    def complain(self, name: str, text: str) -> None:
        """Print what went wrong with a host."""
        prefix = self._prefix(name, "stderr")
        self._write(f"{prefix}mlepool: {text}\n", sys.stderr)

    def _prefix(self, name: str, stream: str = "stdout") -> str:
        return self._prefixes[stream].get(name, "")

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


def prefixes(names: Sequence[str], stream: TextIO) -> dict[str, str]:
    """Give what lines of hosts begin with, of one width; in colours on a terminal."""
    width = max(map(len, names), default=0)
    texts = {name: name.ljust(width) for name in names}
    if are_wanted(stream):
        texts = {name: coloured(text, of_host(name)) for name, text in texts.items()}
    return {name: text + SEPARATOR for name, text in texts.items()}
