"""Signals as they are said to a worker: by their names."""

from __future__ import annotations

from signal import Signals

__all__ = ["signal_name"]


def signal_name(given: object) -> str:
    """Give a signal's name.

    Args:
        given: ``"SIGINT"``, ``"INT"``, ``"int"``, ``signal.SIGINT`` or its number here.
            Whether there is one of that name only its host can tell.

    Raises:
        TypeError: If it is neither text nor a number.
        ValueError: If there is none of that number.
    """
    if isinstance(given, str):
        name = given.upper()
        return name if name.startswith("SIG") else f"SIG{name}"
    if not isinstance(given, int) or isinstance(given, bool):
        kind = type(given).__name__
        raise TypeError(f"a signal is a name as 'SIGTERM', or a number, not {kind}")
    try:
        return Signals(given).name
    except ValueError:
        raise ValueError(f"there is no signal {given}") from None
