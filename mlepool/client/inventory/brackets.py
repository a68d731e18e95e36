"""Numbers in brackets: ``gpu[01-16]`` written out, and folded again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator

from mlepool.client.inventory.faults import fault

__all__ = ["MAX_NAMES", "V6", "fold", "fold_each", "spread", "spread_parts"]

MAX_NAMES = 100_000  # in one text: more than that is a slip
MAX_DIGITS = 18  # of a number: it fits into 64 bits

# An IPv6 address in brackets is an address.
V6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(?:%[\w.-]+)?")
_BRACKET = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"\s*([0-9]+)(?:-([0-9]+)(?:/([0-9]+))?)?\s*")
_DIGITS = re.compile(rf"(?<![0-9])[0-9]{{1,{MAX_DIGITS}}}(?![0-9])")
_SIGNS = re.compile(r"[\[\],!&^*?@]|^\s|\s$")

Item = tuple[tuple[str, ...], ...]  # at each place of a name, the numbers there


class Spreading:
    """Writes out one name with ranges.

    Args:
        text: The whole text, for errors.
        at: Where the name begins in it, in characters.
        most: How many names it may be.
    """

    def __init__(self, text: str, at: int, most: int) -> None:
        self._text = text
        self._at = at
        self._most = most

    def parts(self, name: str) -> Iterator[tuple[str, ...]]:
        """Give the parts of all names: text, what a bracket gave, text, and so on.

        Raises:
            ConfigError: If the name can't be read, or stands for too many.
        """
        parts: list[Collection[str]] = []
        count, end = 1, 0
        for match in _BRACKET.finditer(name):
            parts.append([self._plain(name[end : match.start()], end)])
            parts.append(self._inner(match[1], match.start() + 1))
            count *= len(parts[-1])
            if count > self._most:
                raise self._too_many(match.start())
            end = match.end()
        parts.append([self._plain(name[end:], end)])
        return itertools.product(*parts)

    def _plain(self, text: str, at: int) -> str:
        """See that there are no brackets in what is between them."""
        for number, sign in enumerate(text):
            if sign in "[]":
                raise self._fault(
                    at + number, f"the other bracket of {sign!r} is missing"
                )
        return text

    def _inner(self, inner: str, at: int) -> list[str]:
        """Give the numbers of one bracket, as they are written."""
        if V6.fullmatch(inner):
            return [f"[{inner}]"]
        found: dict[str, None] = {}
        for part in inner.split(","):
            numbers, width = self._range(part, at)
            if len(found) + len(numbers) > self._most:
                raise self._too_many(at)
            found.update((f"{number:0{width}d}", None) for number in numbers)
            at += len(part) + 1
        return list(found)

    def _range(self, part: str, at: int) -> tuple[range, int]:
        match = _RANGE.fullmatch(part)
        if match is None:
            cause = f"{part[:40]!r} is no range: write e.g. [1-8], [01-16] or [0-30/2]"
            raise self._fault(at, cause)
        first, last, step = match[1], match[2] or match[1], match[3] or "1"
        if max(len(first), len(last), len(step)) > MAX_DIGITS:
            raise self._fault(at, f"a number has at most {MAX_DIGITS} digits")
        if int(first) > int(last):
            cause = f"it ends before it begins: write {last}-{first}"
            raise self._fault(at, cause)
        if not int(step):
            raise self._fault(at, "a step is 1 or more")
        if len(first) != len(last) and (_is_padded(first) or _is_padded(last)):
            padded = f"{first.zfill(len(last))}-{last.zfill(len(first))}"
            cause = f"with zeros in front both are as long: write {padded}"
            raise self._fault(at, cause)
        width = len(first) if _is_padded(first) else 0
        return range(int(first), int(last) + 1, int(step)), width

    def _too_many(self, at: int) -> Exception:
        cause = f"these are more than {MAX_NAMES:,} names: write a smaller range"
        return self._fault(at, cause)

    def _fault(self, at: int, cause: str) -> Exception:
        return fault(self._text, self._at + at, cause)


def spread(
    name: str, *, text: str = "", at: int = 0, most: int = MAX_NAMES
) -> Iterator[str]:
    """Give the names that one name with ranges stands for.

    Args:
        name: The name.
        text: What it is a part of, for errors; by default it is all.
        at: Where it begins in that, in characters.
        most: How many names it may be.

    Raises:
        ConfigError: If it can't be read, or stands for too many.
    """
    return map("".join, Spreading(text or name, at, most).parts(name))


def spread_parts(name: str, *, most: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the names as :func:`spread`, each with the numbers in it that were ranges.

    Raises:
        ConfigError: If it can't be read, or stands for over ``most`` names.
    """
    for parts in Spreading(name, 0, most).parts(name):
        numbers = [one for one in parts[1::2] if not one.startswith("[")]
        yield "".join(parts), tuple(numbers)


def fold(names: Iterable[str]) -> str:
    """Write names as short as they go: ``gpu[1-3,7],lab``.

    The other way round than :func:`~mlepool.client.inventory.ranges.expand`. What
    would read there as more than a name stays as it is.
    """
    return ",".join(fold_each(names))


def fold_each(names: Iterable[str]) -> list[str]:
    """Write names as :func:`fold`, as a list: no comma but in brackets."""
    kinds: dict[tuple[str, ...], list[Item]] = {}
    for name in dict.fromkeys(names):
        numbers = [] if _SIGNS.search(name) else _DIGITS.findall(name)
        texts = _DIGITS.split(name) if numbers else [name]
        kinds.setdefault(tuple(texts), []).append(tuple((one,) for one in numbers))
    return [
        _join(texts, item) for texts, items in kinds.items() for item in _merge(items)
    ]


def _merge(items: list[Item]) -> list[Item]:
    """Put items together that differ in one place only, place by place."""
    for place in reversed(range(len(items[0]))):
        alike: dict[tuple[Item, Item], dict[str, None]] = {}
        for item in items:
            rest = item[:place], item[place + 1 :]
            alike.setdefault(rest, {}).update(dict.fromkeys(item[place]))
        items = [
            (*before, tuple(sorted(numbers, key=_by_number)), *after)
            for (before, after), numbers in alike.items()
        ]
    return items


def _join(texts: tuple[str, ...], item: Item) -> str:
    inner = [_bracket(numbers) for numbers in item]
    return "".join(map("".join, itertools.zip_longest(texts, inner, fillvalue="")))


def _bracket(numbers: tuple[str, ...]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    runs: list[list[str]] = []
    for number in numbers:
        if runs and _next(runs[-1][-1], padded=_is_padded(runs[-1][0])) == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"[{','.join(texts)}]"


def _next(number: str, *, padded: bool) -> str:
    """Give what follows a number in a range; it may be wider than that can be."""
    return str(int(number) + 1).zfill(len(number) if padded else 0)


def _by_number(number: str) -> tuple[int, int]:
    return len(number), int(number)


def _is_padded(number: str) -> bool:
    return len(number) > 1 and number.startswith("0")
