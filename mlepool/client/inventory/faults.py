"""What is wrong in a text, and where: the place is shown with a caret."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mlepool.errors import ConfigError

__all__ = ["fault", "nearest", "printable"]

MAX_SHOWN = 72  # characters of the text, around the place
MAX_CHOICES = 10_000  # names among which near ones are looked for


def fault(text: str, at: int, cause: str) -> ConfigError:
    """Make the error for a text that can't be read.

    Args:
        text: The whole text.
        at: Where it goes wrong, in characters from its start.
        cause: What is wrong, and what to do.
    """
    start = max(0, at - MAX_SHOWN // 2)
    shown = text[start : start + MAX_SHOWN]
    return ConfigError(f"{cause}\n  {printable(shown)}\n  {' ' * (at - start)}^")


def printable(text: str) -> str:
    """Make a text one that steers no terminal, and is as long."""
    return "".join(one if one.isprintable() else "?" for one in text)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Say which names are near one that is not there, for the end of a sentence."""
    known = list(choices)
    near = difflib.get_close_matches(name, known[:MAX_CHOICES], 3, 0.6)
    if near:
        return f"near: {', '.join(near)}"
    if not known:
        return "there is none"
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    return f"there are {', '.join(known[:5])}{more}"
