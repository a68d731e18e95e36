"""Where in a shell's text something stands: if a quoted value is one word there."""

from __future__ import annotations

import enum
from collections.abc import Callable

__all__ = ["ShellPlace"]


class _Place(enum.Enum):
    PLAIN = ""
    ESCAPED = "behind a backslash"
    SINGLE = "within single quotes"
    DOUBLE = "within double quotes"
    DOUBLE_ESCAPED = "within double quotes, behind a backslash"
    BRACE = "within double quotes, in ${}"
    COMMENT = "in a comment"
    # It is followed no further: what comes behind it may be anything.
    UNKNOWN = "behind backquotes, << or quotes within quotes"


class ShellPlace:
    """Follows the text of a command as a shell reads it, as far as quotes go.

    Where it can't be sure it says so, and stays so to the end.
    """

    def __init__(self) -> None:
        self._place = _Place.PLAIN
        self._before = ""  # the last character, if it means something

    @property
    def problem(self) -> str:
        """Why a quoted value would not be one word here; empty if it would."""
        if self._place is _Place.PLAIN and self._before == "$":
            return "behind a $"
        return self._place.value

    def go_on(self, text: str) -> None:
        """Follow more text."""
        for character in text:
            follow = _FOLLOW.get(self._place)
            if follow is None:
                return
            was, self._place = self._place, follow(self._before, character)
            self._before = "x" if was is _Place.ESCAPED else character

    def go_on_after_a_word(self) -> None:
        """Note that a quoted value stands here."""
        self._before = "x"


def _in_plain(before: str, character: str) -> _Place:
    if character == "`" or before + character in ("$'", "<<"):
        return _Place.UNKNOWN
    if character == "#" and before in ("", *" \t\n;&|()"):
        return _Place.COMMENT
    found = {"'": _Place.SINGLE, '"': _Place.DOUBLE, "\\": _Place.ESCAPED}
    return found.get(character, _Place.PLAIN)


def _in_double(before: str, character: str) -> _Place:
    if character == "`" or before + character == "$(":
        return _Place.UNKNOWN
    if before + character == "${":
        return _Place.BRACE
    found = {'"': _Place.PLAIN, "\\": _Place.DOUBLE_ESCAPED}
    return found.get(character, _Place.DOUBLE)


def _in_brace(before: str, character: str) -> _Place:
    if character in "\"'`$\\":
        return _Place.UNKNOWN
    return _Place.DOUBLE if character == "}" else _Place.BRACE


def _until(end: str, place: _Place) -> Callable[[str, str], _Place]:
    return lambda before, character: _Place.PLAIN if character == end else place


_FOLLOW: dict[_Place, Callable[[str, str], _Place]] = {
    _Place.PLAIN: _in_plain,
    _Place.ESCAPED: lambda before, character: _Place.PLAIN,
    _Place.SINGLE: _until("'", _Place.SINGLE),
    _Place.DOUBLE: _in_double,
    _Place.DOUBLE_ESCAPED: lambda before, character: _Place.DOUBLE,
    _Place.BRACE: _in_brace,
    _Place.COMMENT: _until("\n", _Place.COMMENT),
}
