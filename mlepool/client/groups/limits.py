"""How many hosts a group's call begins at once, and how many failures end it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Batch", "Limits", "check_flag", "check_number"]

# A number of hosts, or a part of them all: "20%".
Amount = int | str
Batch = Amount | Sequence[Amount]


class Limits(NamedTuple):
    """What a group's call was asked to keep to.

    Attributes:
        max_parallel: Hosts that run at once.
        batch: The sizes of the waves; the last one again and again. None for one wave.
        max_failures: Hosts that may fail; with one more no other begins.
        retries: How often a host is tried again.
    """

    max_parallel: int | None = None
    batch: tuple[Amount, ...] | None = None
    max_failures: Amount | None = None
    retries: int = 0

    @classmethod
    def parse(
        cls,
        *,
        max_parallel: int | None = None,
        batch: Batch | None = None,
        fail_fast: bool = False,
        max_failures: Amount | None = None,
        retries: int = 0,
    ) -> Limits:
        """Check what a caller has given.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If something can't be.
        """
        if max_parallel is not None:
            check_number("max_parallel", max_parallel, least=1)
        check_number("retries", retries, least=0)
        check_flag("fail_fast", fail_fast)
        if max_failures is not None:
            _check_amount("max_failures", max_failures, least=0)
        sizes = None
        if batch is not None:
            sizes = (batch,) if isinstance(batch, int | str) else tuple(batch)
            for one in sizes:
                _check_amount("batch", one, least=1)
            if not sizes:
                raise ValueError("batch must have a size: 5, or [1, 5, '20%']")
        allowed = 0 if fail_fast else max_failures
        return cls(max_parallel, sizes, allowed, retries)

    def allowed(self, total: int) -> float:
        """Give how many of so many hosts may fail."""
        if self.max_failures is None:
            return math.inf
        return _count(self.max_failures, total)

    def wave_size(self, number: int, total: int) -> int:
        """Give how many hosts a wave has, counted from 0, of so many in all."""
        if self.batch is None:
            return total
        size = self.batch[min(number, len(self.batch) - 1)]
        return max(1, _count(size, total))


def check_flag(name: str, value: Any) -> None:
    """See that something is yes or no.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")


def _count(amount: Amount, total: int) -> int:
    if isinstance(amount, int):
        return amount
    return int(total * _percent(amount) / 100)


def _percent(text: str) -> float:
    return float(text.removesuffix("%"))


def check_number(name: str, value: Any, *, least: int) -> None:
    """See if something is a whole number, and not too small.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")


def _check_amount(name: str, value: Any, *, least: int) -> None:
    if not isinstance(value, str):
        check_number(name, value, least=least)
        return
    try:
        good = value.endswith("%") and 0 <= _percent(value) <= 100
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{name} is a number or a part, as '20%', not {value!r}")
