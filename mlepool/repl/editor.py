"""The line editor while something other than Python is typed."""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any, Self

from mlepool.client.sync import Connection
from mlepool.repl.completion import Completer

__all__ = ["Typing", "at_word", "readline"]

DELIMITERS = " \t\n\"'`@$><=;|&{("


def readline() -> Any:
    """Give the line editor; None on systems without one."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


def at_word(line: str, end: int, *, begin: int, text: str, choice: str) -> str:
    """Give what readline is to put where its word begins.

    Args:
        line: The line as it is.
        end: Where the cursor is.
        begin: Where readline's word begins.
        text: What is to be replaced, just before the cursor.
        choice: What stands in place of it.
    """
    return (line[: end - len(text)] + choice)[begin:]


class Typing:
    """Completes paths on a host while its ``with`` block runs."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._completer = Completer({})
        self._editor = readline()
        self._choices: list[str] = []
        self._before: tuple[Any, str] = None, ""

    def __enter__(self) -> Self:
        editor = self._editor
        if editor is not None:
            self._before = editor.get_completer(), editor.get_completer_delims()
            editor.set_completer_delims(DELIMITERS)
            editor.set_completer(self.complete)
            editor.parse_and_bind("tab: complete")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._editor is not None:
            completer, delimiters = self._before
            self._editor.set_completer(completer)
            self._editor.set_completer_delims(delimiters)

    def complete(self, text: str, number: int) -> str | None:
        """Give one choice after the other, as readline asks for them."""
        if number == 0:
            self._choices = self._completer.paths(self._conn, text).choices
        return self._choices[number] if number < len(self._choices) else None
