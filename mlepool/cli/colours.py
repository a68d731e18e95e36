"""Colours on terminals: when there are any, and which one a host has."""

from __future__ import annotations

import os
import re
import zlib
from typing import TextIO

__all__ = ["are_wanted", "coloured", "of_host"]

COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # SGR codes; no red, which is alarm


def are_wanted(stream: TextIO) -> bool:
    """Tell if what goes to a stream is to have colours.

    On a terminal, unless ``NO_COLOR`` is set or it can't show any; with ``FORCE_COLOR``
    anywhere.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def of_host(name: str) -> int:
    """Give a host's colour as an SGR code: the same in any run and company."""
    texts, numbers = re.split(r"\d+", name), re.findall(r"\d+", name)
    start = zlib.crc32("".join(texts).encode(errors="replace"))
    # One after the other: neighbours are not of one colour.
    return COLOURS[(start + sum(map(int, numbers))) % len(COLOURS)]


def coloured(text: str, code: int) -> str:
    """Give a text in a colour."""
    return f"\x1b[{code}m{text}\x1b[0m"
