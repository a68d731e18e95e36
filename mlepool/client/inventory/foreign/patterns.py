"""Ansible's ranges in names of hosts: ``web[01:50]``, ``db-[a:f]``, ``x[0:9:3]``."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Sequence

from mlepool.client.inventory.brackets import MAX_NAMES
from mlepool.errors import ConfigError

__all__ = ["spread_pattern"]

_BRACKET = re.compile(r"\[([0-9]+|[a-zA-Z]):([0-9]+|[a-zA-Z])(?::([0-9]{1,6}))?\]")
_PORT = re.compile(r"(?<=[^:]):[0-9]{1,5}$")
MAX_DIGITS = 18


def spread_pattern(pattern: str) -> Iterator[str]:
    """Give the names that a pattern stands for; ssh's port at its end is dropped.

    Raises:
        ConfigError: If it can't be read, or stands for too many.
    """
    if pattern.count(":") - sum(one[0].count(":") for one in _found(pattern)) == 1:
        pattern = _PORT.sub("", pattern)
    parts: list[Sequence[str]] = []
    count, end = 1, 0
    for match in _BRACKET.finditer(pattern):
        inner = _inner(match)
        count *= len(inner)
        if count > MAX_NAMES:
            raise ConfigError(f"these are more than {MAX_NAMES:,} names")
        parts += [[pattern[end : match.start()]], inner]
        end = match.end()
    parts.append([pattern[end:]])
    return map("".join, itertools.product(*parts))


def _found(pattern: str) -> list[re.Match[str]]:
    return list(_BRACKET.finditer(pattern))


def _inner(match: re.Match[str]) -> Sequence[str]:
    first, last, step = match[1], match[2], int(match[3] or 1)
    if not step or first.isdigit() != last.isdigit():
        raise ConfigError(f"{match[0]} is no range")
    if not first.isdigit():
        letters = string.ascii_letters
        found = letters[letters.index(first) : letters.index(last) + 1 : step]
        return _some(match, list(found))
    if max(len(first), len(last)) > MAX_DIGITS:
        raise ConfigError(f"{match[0]} has too many digits")
    numbers = range(int(first), int(last) + 1, step)
    if len(numbers) > MAX_NAMES:
        raise ConfigError(f"these are more than {MAX_NAMES:,} names")
    width = len(first) if first.startswith("0") else 0
    return _some(match, [f"{number:0{width}d}" for number in numbers])


def _some(match: re.Match[str], found: list[str]) -> list[str]:
    if not found:
        raise ConfigError(f"{match[0]} ends before it begins")
    return found
