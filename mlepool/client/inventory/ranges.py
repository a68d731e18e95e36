"""Sets of names as text: ``gpu[01-16],!gpu03``, ``@train``, ``gpu*``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from mlepool.client.inventory.brackets import MAX_NAMES, fold, spread
from mlepool.client.inventory.faults import fault, nearest

__all__ = ["MAX_NAMES", "expand", "fold", "is_set"]

_SIGNS = re.compile(r"[\[\],!&^*?]|^\s*@")

Names = dict[str, None]  # a set that keeps its order


class _Term(NamedTuple):
    """What stands between two operators.

    Attributes:
        operator: The one before it; ``,`` for the first.
        text: The term.
        at: Where it begins, in characters.
    """

    operator: str
    text: str
    at: int


def is_set(text: str) -> bool:
    """Tell if a text may stand for more than one name, or for none, by its signs."""
    return bool(_SIGNS.search(text))


def expand(
    text: str,
    *,
    names: Collection[str] | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
    spared: Collection[str] | None = None,
) -> list[str]:
    """Give the names that a text stands for.

    It has names, ``@group``, wildcards (``*``, ``?``) and ranges (``gpu[1-8]``,
    ``gpu[01-16]``, ``gpu[0-30/2,99]``, ``r[1-2]n[1-9]``). Between them, from left to
    right: ``,`` (or), ``!`` (but not), ``&`` (only if also), ``^`` (in one of both). A
    comma may stand before another operator: ``gpu[1-8],!gpu3``. A ``!`` in front takes
    away from all. A name that is known just as it is written means itself.

    Args:
        text: The text.
        names: What is known, in its order; None takes every name, and has no wildcards.
        groups: The names in each group; those that are not known don't count.
        spared: Where ``names`` is None: what a ``!`` may take away though it is not
            there before it; None for every name.

    Returns:
        The names, each once, in the order of ``names``, or else of the text.

    Raises:
        ConfigError: If it can't be read, or stands for more than 100,000 names: shows
            where.
        KeyError: If a name, a group or a match is not there; says what is near.
    """
    known = None if names is None else dict.fromkeys(names)
    if known is not None and text in known:
        return [text]
    reader = _Reader(text, known, groups or {})
    found: Names = {}
    for number, term in enumerate(_terms(text)):
        if not number and term.operator == "!":
            found = dict.fromkeys(reader.all_names(0))
        read = dict.fromkeys(reader.read(term))
        if term.operator == "!" and spared is not None:
            _check_spared(read, {*found, *spared})
        _COMBINE[term.operator](found, read)
    if known is None or len(found) < 2:
        return list(found)
    return [name for name in known if name in found]


class _Reader:
    """Makes names of terms, and counts them."""

    def __init__(
        self, text: str, known: Names | None, groups: Mapping[str, Collection[str]]
    ) -> None:
        self._text = text
        self._known = known
        self._groups = groups
        self._left = MAX_NAMES

    def all_names(self, at: int) -> Names:
        """Give all that are known."""
        if self._known is None:
            raise fault(self._text, at, "names must be written out here")
        return self._known

    def read(self, term: _Term) -> list[str]:
        """Give the names of a term."""
        if self._known is not None and term.text in self._known:
            found = [term.text]
        elif term.text.startswith("@"):
            found = list(self._grouped(term))
        elif "*" in term.text or "?" in term.text:
            found = [
                one for name in self._spread(term) for one in self._like(name, term)
            ]
        else:
            found = list(self._spread(term))
            self._check(found)
        self._left -= len(found)
        if self._left < 0:
            cause = f"these are more than {MAX_NAMES:,} names"
            raise fault(self._text, term.at, cause)
        return found

    def _spread(self, term: _Term) -> Iterator[str]:
        return spread(term.text, text=self._text, at=term.at, most=self._left)

    def _grouped(self, term: _Term) -> Iterator[str]:
        name_of_group = _Term(term.operator, term.text[1:], term.at + 1)
        if not name_of_group.text:
            raise fault(self._text, term.at, "the name of a group is missing")
        known = self._known
        for name in self._spread(name_of_group):
            if name not in self._groups:
                near = nearest(name, self._groups)
                raise KeyError(f"there is no group {name!r} ({near})")
            members = self._groups[name]
            yield from (one for one in members if known is None or one in known)

    def _like(self, pattern: str, term: _Term) -> list[str]:
        known = self.all_names(term.at)
        matches = re.compile(fnmatch.translate(pattern)).match
        found = [name for name in known if matches(name)]
        if not found:
            near = nearest(pattern.replace("*", ""), known)
            raise KeyError(f"no name is like {pattern!r} ({near})")
        return found

    def _check(self, names: list[str]) -> None:
        """See that all are known."""
        known = self._known
        missing = [] if known is None else [one for one in names if one not in known]
        if missing:
            near = nearest(missing[0], known or ())
            raise KeyError(f"there is no {fold(missing)!r} ({near})")


def _check_spared(names: Names, known: Collection[str]) -> None:
    """See that what is left out is there: mistyped, it would not be left out."""
    missing = [one for one in names if one not in known]
    if missing:
        near = nearest(missing[0], known)
        raise KeyError(f"there is no {fold(missing)!r} to leave out ({near})")


def _terms(text: str) -> Iterator[_Term]:
    """Cut a text at its operators, which don't count in brackets."""
    operator, start, before = ",", 0, ""
    for at in _ends(text):
        sign = text[at : at + 1]
        term = text[start:at].strip()
        if term:
            indent = len(text[start:at]) - len(text[start:at].lstrip())
            yield _Term(operator, term, start + indent)
        elif not _may_follow(before, sign):
            raise fault(text, at, "a name is missing here")
        operator, start, before = sign, at + 1, sign


def _ends(text: str) -> Iterator[int]:
    """Give where terms end: at operators that are not in brackets, and at the end."""
    opened = -1
    for at, sign in enumerate(text):
        if sign == "[" and opened < 0:
            opened = at
        elif sign == "]" and opened >= 0:
            opened = -1
        elif sign in "[]":
            raise fault(text, at, f"there is no place for a {sign!r} here")
        elif sign in ",!&^" and opened < 0:
            yield at
    if opened >= 0:
        raise fault(text, opened, "the ']' to this is missing")
    yield len(text)


def _may_follow(before: str, sign: str) -> bool:
    """Tell if an operator may follow another one, or ("") stand in front."""
    return sign == "!" if not before else before == "," and sign in ("!", "&", "^")


def _unite(found: Names, names: Names) -> None:
    found.update(names)


def _take_away(found: Names, names: Iterable[str]) -> None:
    for name in names:
        found.pop(name, None)


def _keep(found: Names, names: Names) -> None:
    _take_away(found, [name for name in found if name not in names])


def _differ(found: Names, names: Names) -> None:
    both = [name for name in names if name in found]
    found.update(names)
    _take_away(found, both)


_COMBINE: Mapping[str, Callable[[Names, Names], None]] = {
    ",": _unite,
    "!": _take_away,
    "&": _keep,
    "^": _differ,
}
