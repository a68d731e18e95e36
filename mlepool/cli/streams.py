"""The streams of this process: made usable, and let go of where nobody reads."""

from __future__ import annotations

import contextlib
import io
import os
import sys

__all__ = ["complain", "drop_stdout", "drop_unwritable", "mend"]


def complain(text: str) -> None:
    """Say something on stderr, in our own name."""
    sys.stdout.flush()  # what came before is seen before, in one file too
    print(f"mlepool: {text}", file=sys.stderr, flush=True)


def mend() -> None:
    """Make stdin, stdout and stderr something that can be used."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: the next file would take its number
            flags, mode = (os.O_WRONLY, "w") if number else (os.O_RDONLY, "r")
            stream = open(os.open(os.devnull, flags), mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper):
            # A host may print what this terminal's encoding does not have.
            stream.reconfigure(errors="backslashreplace")


def drop_unwritable() -> None:
    """Let go of what can't be written, or Python would complain of it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _point_to_nothing(stream.fileno())


def drop_stdout() -> None:
    """Write to stdout no more: its reader may be stuck, and we are to end."""
    with contextlib.suppress(OSError):  # none of the system's, in a test
        _point_to_nothing(sys.stdout.fileno())


def _point_to_nothing(fd: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
