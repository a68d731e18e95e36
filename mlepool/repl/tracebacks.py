"""Errors at a prompt: where the line was that met one, and what it says."""

from __future__ import annotations

import os
import sys
import traceback

import mlepool
from mlepool.errors import MlepoolError

__all__ = ["SHORT", "is_short", "shortened"]

LIBRARY = os.path.dirname(os.path.abspath(mlepool.__file__)) + os.sep
CLIENT = os.path.join(LIBRARY, "client", "")

# Whose frames run what is typed.
PROMPTS = (f"{os.sep}code.py", f"{os.sep}interactiveshell.py")

# What may be told in short. Those of MISTYPED where the client raises them; elsewhere
# they may be somebody's fault, and are shown whole.
MISTYPED = (AttributeError, TypeError, ValueError, KeyError)
SHORT = (MlepoolError, ExceptionGroup, KeyboardInterrupt, *MISTYPED)


def is_short(exc: BaseException) -> bool:
    """Tell if an error says all by itself: a host is away, a name is not known.

    So does Ctrl-C while the client waited.
    """
    if isinstance(exc, ExceptionGroup):
        return all(map(is_short, exc.exceptions))
    if isinstance(exc, MlepoolError):
        return True
    frames = traceback.extract_tb(exc.__traceback__)
    are_ours = [one.filename.startswith(CLIENT) for one in frames]
    if isinstance(exc, KeyboardInterrupt):
        return any(are_ours)
    return are_ours[-1:] == [True] and isinstance(exc, MISTYPED)


def shortened(exc: BaseException) -> str:
    """Write an error without its causes, and without frames of the library.

    ``sys.last_value`` has them all.
    """
    sys.last_type, sys.last_value = type(exc), exc
    sys.last_traceback = exc.__traceback__
    told = traceback.TracebackException.from_exception(exc)
    _shorten(told)
    return "".join(told.format(chain=False))


def _shorten(told: traceback.TracebackException) -> None:
    frames = [one for one in told.stack if not _is_inner(one.filename)]
    told.stack = traceback.StackSummary.from_list(frames)
    for one in told.exceptions or ():
        one.__cause__ = one.__context__ = None
        _shorten(one)


def _is_inner(filename: str) -> bool:
    return filename.startswith(LIBRARY) or filename.endswith(PROMPTS)
