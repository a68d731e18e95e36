"""What ``add()`` and calls are given, looked at before anything is done with it."""

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

__all__ = ["check_added", "check_limit", "check_seconds", "check_wait"]

_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str, NoneType),
    "labels": (Mapping, NoneType),
    "enter_connect": (bool,),
    "raise_error": (bool,),
    "proxy": (str, NoneType),
}
_NAMES = {Mapping: "a dict", NoneType: "None", bool: "a bool", str: "a str"}


def check_added(**given: Any) -> None:
    """See if what a connection is made of has the right types.

    Args:
        given: By the parameter's name.

    Raises:
        TypeError: If something has another type.
    """
    for name, kinds in _KINDS.items():
        value = given[name]
        if not isinstance(value, kinds):
            wanted = " or ".join(_NAMES[one] for one in kinds)
            raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")
    for key in given["labels"] or ():
        if not isinstance(key, str):
            raise TypeError(f"a label's name must be a str, not {key!r}")


def check_seconds(name: str, seconds: Any) -> None:
    """See if something is a number of seconds, or None.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is below 0, or no finite number.
    """
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        kind = type(seconds).__name__
        raise TypeError(f"{name} is a number of seconds or None, not {kind}")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be a number of seconds, not {seconds}")


def check_limit(name: str, seconds: Any) -> float | None:
    """See if a limit is a number of seconds; None is for none, as is infinity.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is below 0.
    """
    limit = None if seconds == float("inf") else seconds
    check_seconds(name, limit)
    return limit


def check_wait(seconds: Any) -> None:
    """See if something says how long to wait, or is None; below 0 it is over at once.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is NaN.
    """
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        kind = type(seconds).__name__
        raise TypeError(f"a timeout is a number of seconds or None, not {kind}")
    if math.isnan(seconds):
        raise ValueError("a timeout is a number of seconds or None, not nan")
