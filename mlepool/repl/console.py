"""The plain prompt: Python's own, with completion and host mode."""

from __future__ import annotations

import builtins
import code
import rlcompleter
import sys
from typing import Any

from mlepool.client.sync import ClientPool, Listener
from mlepool.errors import MlepoolError
from mlepool.repl.completion import Completer
from mlepool.repl.editor import at_word, readline
from mlepool.repl.host_mode import HostMode
from mlepool.repl.tracebacks import is_short, shortened
from mlepool.repl.words import OnLine, is_on

__all__ = ["Console", "display"]


class Console(code.InteractiveConsole):
    """Python's prompt; a line that begins with ``:on`` is for hosts.

    Args:
        names: What is known at the prompt; ``pool`` among them.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._names = names
        self._completer = Completer(names)
        self._python = rlcompleter.Completer(names)
        self._editor = readline()
        self._choices: list[str] = []

    def start(self, banner: str) -> None:
        """Read and run lines until the end of input."""
        if self._editor is not None:
            self._editor.set_completer(self.complete)
            self._editor.parse_and_bind("tab: complete")
        sys.displayhook = display
        try:
            self.interact(banner, exitmsg="")
        except SystemExit:
            return
        finally:
            sys.displayhook = sys.__displayhook__

    def push(self, line: str, *args: Any, **keywords: Any) -> bool:
        """Take a line; True if more of the statement is to come."""
        if not self.buffer and is_on(line):
            self._on(line)
            return False
        return super().push(line, *args, **keywords)

    def showtraceback(self) -> None:
        """Show what a line has raised."""
        exc = sys.exc_info()[1]
        if exc is not None and is_short(exc):
            self.write(shortened(exc))
        else:
            super().showtraceback()

    def complete(self, text: str, number: int) -> str | None:
        """Give one choice after the other, as readline asks for them."""
        if number == 0:
            self._choices = self._all(text)
        return self._choices[number] if number < len(self._choices) else None

    def _on(self, line: str) -> None:
        try:
            wanted = OnLine.parse(line.lstrip().removeprefix(":on"))
            pool = self._names["pool"]
            assert isinstance(pool, ClientPool)
            mode = HostMode(pool, wanted.hosts(pool))
            if wanted.command:
                mode.take(wanted.command)
            else:
                mode.run()
        except KeyError as exc:
            print(f"mlepool: {exc.args[0]}")  # str() puts it in quotes
        except (MlepoolError, LookupError, ValueError) as exc:
            print(f"mlepool: {exc}")

    def _all(self, text: str) -> list[str]:
        assert self._editor is not None
        line, end = self._editor.get_line_buffer(), self._editor.get_endidx()
        begin = self._editor.get_begidx()
        found = self._completer.complete(line[:end])
        if found is not None:
            return [
                at_word(line, end, begin=begin, text=found.text, choice=one)
                for one in found.choices
            ]
        choices: list[str] = []
        while (choice := self._python.complete(text, len(choices))) is not None:
            choices.append(choice)
        return choices


def display(value: Any) -> None:
    """Show a value as Python does; of a command that gives one, that value."""
    if isinstance(value, Listener):
        builtins._ = value  # type: ignore[attr-defined]
        print(value)
    else:
        sys.__displayhook__(value)
