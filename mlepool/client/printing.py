"""Commands and messages, as they are written for people."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from mlepool.client.listening.values import shown

__all__ = ["display", "print_message"]


def display(command: Any) -> str:
    """Write a command for people: as text, or as argv."""
    if not isinstance(command, list | tuple):
        return str(command)
    return shlex.join(
        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
        for one in command
    )


def print_message(message: Any) -> None:
    """Print a line where it came from, stdout or stderr; of a value its repr."""
    text = shown(message)
    file = sys.stderr if getattr(message, "stream", "") == "stderr" else sys.stdout
    written = f"{text}{getattr(message, 'end', chr(10))}"
    try:
        file.write(written)
    except UnicodeEncodeError:
        # A host may print what this terminal's encoding does not have.
        encoding = file.encoding
        file.write(written.encode(encoding, "backslashreplace").decode(encoding))
    file.flush()
