"""Label selectors with the Kubernetes grammar: ``gpu=a100,zone in (a,b),!broken``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mlepool.client.inventory.faults import fault

__all__ = ["MAX_KEY", "Selector"]

MAX_KEY = 320  # characters; Kubernetes has 253 and 63, and a "/" between them

_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>==|!=|[=!(),<>])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>[^\s=!(),<>"']+)|(?P<end>$)|(?P<odd>.))""",
    re.DOTALL,
)
_NUMBER = re.compile(r"([+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?)(?:([KMGTP])(i?)B?|B)?")


class _Token(NamedTuple):
    """A sign or a word.

    Attributes:
        kind: The sign itself, ``"word"``, or ``"end"``.
        text: The word, without quotes.
        at: Where it begins, in characters.
    """

    kind: str
    text: str
    at: int


class Requirement(NamedTuple):
    """What one part of a selector asks of a host.

    Attributes:
        key: The label or fact.
        operator: ``exists``, ``!``, ``in``, ``notin``, ``>`` or ``<``.
        values: Those that it is compared with.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, found: list[Any]) -> bool:
        """Tell if it holds for the values that a host has; none if it has no such."""
        return _HOLDS[self.operator](found, self.values)


class Selector:
    """Which hosts are meant, by their labels and facts.

    ``key=value`` (or ``==``), ``key!=value``, ``key in (a,b)``, ``key notin (a,b)``,
    ``key``, ``!key``, ``key>8``, ``key<64GiB``; a comma is "and". As in Kubernetes,
    ``!=`` and ``notin`` hold also for who has no such key, and ``>`` and ``<`` for
    nobody whose value is no number. Dots lead into tables (``cpu.cores>8``); of a list
    one entry has to fit (``gpu.name="NVIDIA A100"``), and an empty one is not there.

    Attributes:
        text: How it was written.
        requirements: Its parts; all must hold.
    """

    def __init__(self, text: str, requirements: tuple[Requirement, ...]) -> None:
        self.text = text
        self.requirements = requirements

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector.

        Raises:
            ConfigError: If it can't be read, or is empty: shows where.
        """
        return cls(text, tuple(_Parser(text).requirements()))

    def matches(
        self, labels: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell if a host is meant.

        Args:
            labels: Its labels here: by connection or inventory.
            facts: The worker's state. Its labels count where ``labels`` has no such
                key, and the rest of it where these have none either.
        """
        told = facts or {}
        own = told.get("labels")
        layers = (labels, own if isinstance(own, Mapping) else {}, told)
        return all(one.holds(_find(one.key, layers)) for one in self.requirements)

    def excludes(self, labels: Mapping[str, Any]) -> bool:
        """Tell if a host can't be meant, whatever its worker will tell.

        Args:
            labels: Its labels here: they count before those of the worker.
        """
        known = ((one, _find(one.key, (labels,))) for one in self.requirements)
        return not all(one.holds(found) for one, found in known if found)

    def __repr__(self) -> str:
        return f"<Selector {self.text!r}>"


class _Parser:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0

    def requirements(self) -> Iterator[Requirement]:
        while True:
            yield self._requirement()
            token = self._take()
            if token.kind == "end":
                return
            if token.kind != ",":
                cause = "put a ',' here, or quotes around a value with blanks in it"
                raise self._fault(token, cause)

    def _requirement(self) -> Requirement:
        if self._peek().kind == "!":
            self._take()
            return Requirement(self._key(), "!")
        key = self._key()
        token = self._peek()
        if token.kind in (",", "end"):
            return Requirement(key, "exists")
        self._take()
        operator = token.text if token.kind == "word" else token.kind
        if operator in ("in", "notin"):
            return Requirement(key, operator, self._values())
        if operator in ("=", "==", "!="):
            kind = "notin" if operator == "!=" else "in"
            return Requirement(key, kind, (self._value(),))
        if operator in (">", "<"):
            return Requirement(key, operator, (self._number(),))
        raise self._fault(token, "put one of = != in notin > < here")

    def _values(self) -> tuple[str, ...]:
        if (opening := self._take()).kind != "(":
            raise self._fault(opening, "put the values in brackets: (a,b)")
        values = [self._value()]
        while (token := self._take()).kind == ",":
            values.append(self._value())
        if token.kind != ")":
            raise self._fault(token, "put a ',' or a ')' here")
        return tuple(values)

    def _value(self) -> str:
        """Take a value; what is left out is the empty one."""
        return self._take().text if self._peek().kind == "word" else ""

    def _number(self) -> str:
        token = self._peek()
        if math.isnan(_number(self._value())):
            raise self._fault(token, "put a number here, e.g. 8, 0.5 or 64GiB")
        return token.text

    def _key(self) -> str:
        token = self._take()
        if token.kind != "word" or not token.text:
            raise self._fault(token, "a key is missing here")
        if len(token.text) > MAX_KEY:
            raise self._fault(token, f"a key has at most {MAX_KEY} characters")
        return token.text

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _fault(self, token: _Token, cause: str) -> Exception:
        return fault(self._text, token.at, cause)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    kind = ""
    while kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:  # nothing matches no text: odd and end take the rest
            raise AssertionError(text)
        at, kind = match.end(), str(match.lastgroup)
        word = match[kind]
        if kind == "odd":
            raise fault(text, match.start(kind), f"the second {word} is missing")
        if kind == "sign":
            yield _Token(word, word, match.start(kind))
        elif kind == "end":
            yield _Token("end", "", match.start(kind))
        else:
            quote = 0 if kind == "word" else 1
            yield _Token("word", word, match.start(kind) - quote)


def _find(key: str, layers: tuple[Mapping[str, Any], ...]) -> list[Any]:
    """Give the values of a key in the first layer that has it."""
    for layer in layers:
        if found := list(_values_at(layer, key)):
            return found
    return []


def _values_at(value: Any, path: str) -> Iterator[Any]:
    """Give what is in a value at a path with dots; of lists, of each entry."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _values_at(one, path)
    elif path and isinstance(value, Mapping):
        yield from _values_below(value, path)
    elif not path and value is not None:
        yield value


def _values_below(table: Mapping[str, Any], path: str) -> Iterator[Any]:
    if path in table:
        yield from _values_at(table[path], "")
        return
    for match in re.finditer(r"\.", path):
        if path[: match.start()] in table:
            yield from _values_at(table[path[: match.start()]], path[match.end() :])


def _is_like(actual: Any, text: str) -> bool:
    """Tell if a value is the one that is written."""
    if isinstance(actual, str):
        return actual == text
    if isinstance(actual, bool):
        return text.lower() == str(actual).lower()
    return isinstance(actual, int | float) and actual == _number(text)


def _number(value: Any) -> float:
    """Read a number, with or without a unit of size; NaN if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return math.nan
    base = 1024 if match[3] else 1000
    power = " KMGTP".index(match[2]) if match[2] else 0
    return float(match[1]) * float(base**power)


def _is_in(found: list[Any], values: tuple[str, ...]) -> bool:
    return any(_is_like(one, value) for one in found for value in values)


_HOLDS: Mapping[str, Callable[[list[Any], tuple[str, ...]], bool]] = {
    "exists": lambda found, values: bool(found),
    "!": lambda found, values: not found,
    "in": _is_in,
    "notin": lambda found, values: not _is_in(found, values),
    ">": lambda found, values: any(_number(one) > _number(values[0]) for one in found),
    "<": lambda found, values: any(_number(one) < _number(values[0]) for one in found),
}
