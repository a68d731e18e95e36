"""The parameters of a sweep's runs: every combination, made when it is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["FIXED", "MAX_RUNS", "Grid", "Value", "read_axis", "read_rows"]

Value = str | int | float | bool | None

MAX_RUNS = 1_000_000  # of one sweep; its plan is a file that is read as a whole

_PLAIN = (int, str, bool, type(None))

# What the table of results has besides the parameters.
FIXED = ("run", "status", "exit_code", "host", "seconds", "attempts", "last")


class Grid:
    """All combinations of some axes, numbered from 0; the last axis turns fastest.

    Args:
        axes: Values by name.
        rows: Combinations that are given, in place of axes or to be combined with
            them; they turn slowest.

    Attributes:
        names: The parameters' names, in order.

    Raises:
        ValueError: If there are too many, or a name is that of a column of results.
    """

    def __init__(
        self,
        axes: Mapping[str, Sequence[Value]],
        rows: Sequence[Mapping[str, Value]] | None = None,
    ) -> None:
        self._axes = {name: tuple(values) for name, values in axes.items()}
        self._rows = None if rows is None else [dict(one) for one in rows]
        of_rows = dict.fromkeys(itertools.chain.from_iterable(self._rows or ()))
        self.names = (*of_rows, *self._axes)
        for name in self.names:
            if name in FIXED:
                text = f"{name!r} can't be a parameter: the table has such a column"
                raise ValueError(text)
        twice = of_rows.keys() & self._axes.keys()
        if twice:
            raise ValueError(f"{min(twice)!r} is both in rows and an axis")
        count = 1 if self._rows is None else len(self._rows)
        self._size = count * math.prod(map(len, self._axes.values()))
        if len(self) > MAX_RUNS:
            raise ValueError(f"{len(self)} runs are over the limit of {MAX_RUNS}")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> dict[str, Value]:
        """Give a combination.

        Raises:
            IndexError: If there is none of this number.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there is no run {number}, but {len(self)} of them")
        found: dict[str, Value] = {}
        for name, values in reversed(self._axes.items()):
            number, place = divmod(number, len(values))
            found[name] = values[place]
        row = {} if self._rows is None else self._rows[number]
        return {**row, **dict(reversed(found.items()))}


def read_axis(name: str, values: Any) -> list[Value]:
    """Read an axis: several values, or one.

    Raises:
        TypeError: If a value is no text, number, bool or None.
        ValueError: If there are none, or too many, or a number is not finite.
    """
    if isinstance(values, Mapping | set | frozenset | bytes):
        kind = type(values).__name__
        raise TypeError(f"{name}: give a list of values, not a {kind}")
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = (values,)
    found = [_plain(name, one) for one in itertools.islice(values, MAX_RUNS + 1)]
    if not found:
        raise ValueError(f"{name}: there is no value")
    if len(found) > MAX_RUNS:
        raise ValueError(f"{name}: over {MAX_RUNS} values")
    return found


def read_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Value]]:
    """Read combinations that are given one by one; a pandas table gives them, too.

    Raises:
        TypeError: If one is no mapping, or a value is none that can be.
        ValueError: If they differ in their names, or there are none.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    found = []
    for row in itertools.islice(rows, MAX_RUNS + 1):
        if not isinstance(row, Mapping):
            raise TypeError(f"rows: each is a dict, not {type(row).__name__}")
        found.append({name: _plain(name, one) for name, one in row.items()})
        if found[-1].keys() != found[0].keys():
            raise ValueError(f"rows: row {len(found) - 1} has other names than row 0")
    if not found:
        raise ValueError("rows: there are none")
    return found


def _plain(name: str, value: Any) -> Value:
    """Give a value as a file can hold it: those of numpy are numbers, too."""
    if type(value) in _PLAIN:
        return value  # type: ignore[no-any-return]
    if hasattr(value, "__fspath__"):
        value = value.__fspath__()
    if hasattr(value, "item") and not isinstance(value, str | int | float):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value} is no finite number; give it as text")
    if isinstance(value, float):
        return float(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{name}: {value!r} is no text, number, bool or None")
