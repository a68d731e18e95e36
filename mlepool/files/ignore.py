"""What is left out of a tree: the rules for each folder, and for another tree.

As git has it, but with other names of files: the nearest file is heard first, and
nothing comes back from a folder that is left out. The tests ask ``git check-ignore``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from mlepool.files.base import Scan
from mlepool.files.patterns import Patterns
from mlepool.tree import FILE, FOLDER, Entry, order_of

__all__ = ["Rules", "leave_out", "pick"]


class Rules:
    """What is left out of one folder: by its own ignore files and those above it.

    Args:
        exclude: Patterns that are heard first, as lines of a file at the root.
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self._first: list[tuple[Patterns, bytes]] = []
        if exclude:
            first = Patterns(b"\n".join(map(os.fsencode, exclude)))
            self._first.append((first, b""))
        self._files: list[tuple[Patterns, bytes]] = []  # the nearest first

    def add(self, text: bytes) -> None:
        """Add an ignore file that is in this folder; later ones are heard first."""
        patterns = Patterns(text)
        if patterns:
            self._files.insert(0, (patterns, b""))

    def enter(self, name: bytes) -> Rules:
        """Give the rules for a folder in this one."""
        below = Rules()
        below._first = [(one, at + name + b"/") for one, at in self._first]
        below._files = [(one, at + name + b"/") for one, at in self._files]
        return below

    def __bool__(self) -> bool:
        return bool(self._first or self._files)

    def hides(self, name: bytes, *, is_folder: bool) -> bool:
        """Tell whether something in this folder is left out."""
        for lists in (self._first, self._files):
            for patterns, folder in lists:
                found = patterns.decide(folder, name, is_folder=is_folder)
                if found is not None:
                    return found
        return False


def leave_out(
    entries: Iterable[Entry],
    texts: Iterable[tuple[bytes, bytes]],
    *,
    exclude: Sequence[str] = (),
) -> list[Entry]:
    """Drop from a list of a tree what ignore files of another tree hide.

    So that nothing is deleted from a target because the source ignores it.

    Args:
        entries: All entries, in order.
        texts: Path of a folder, and what an ignore file in it says, in order.
        exclude: Patterns that are heard first.

    Returns:
        The others, in order; folders count what was dropped from them.
    """
    by_folder: dict[bytes, list[bytes]] = {}
    for path, text in texts:
        by_folder.setdefault(path, []).append(text)
    return _Sieve(by_folder, Rules(exclude)).run(entries) if by_folder else [*entries]


def pick(scan: Scan, include: Sequence[str]) -> Scan:
    """Give what patterns name, all that is in it, and the folders on the way to it.

    Of problems those of what they name are left, and of folders that could not be
    read: these may have such things in them.

    Args:
        scan: Of all.
        include: The patterns, as lines of an ignore file at the root.
    """
    picked = _named(scan.entries, include)
    problems = scan.problems
    if problems:
        folders = {b"", *(one.path for one in scan.entries if one.kind == FOLDER)}
        others = [Entry(one.path, FILE) for one in problems if one.path not in folders]
        both = sorted([*scan.entries, *others], key=lambda one: order_of(one.path))
        kept = folders | _named(both, include)
        problems = [one for one in problems if one.path in kept]
    entries = [one for one in scan.entries if one.path in picked]
    return structs.replace(scan, entries=entries, problems=problems)


def _named(entries: Iterable[Entry], include: Sequence[str]) -> set[bytes]:
    rules = {b"": Rules(include)}
    picked: set[bytes] = set()
    whole: bytes | None = None  # begins each path in a folder that was picked
    for entry in entries:
        folder, _, name = entry.path.rpartition(b"/")
        is_folder = entry.kind == FOLDER
        if whole is not None and entry.path.startswith(whole):
            picked.add(entry.path)
        elif rules[folder].hides(name, is_folder=is_folder):
            picked |= {entry.path, *_parents(entry.path)}
            whole = entry.path + b"/" if is_folder else whole
        elif is_folder:
            rules[entry.path] = rules[folder].enter(name)
    return picked


def _parents(path: bytes) -> Iterator[bytes]:
    while path := path.rpartition(b"/")[0]:
        yield path


class _Sieve:
    """One walk along a list of a tree."""

    def __init__(self, texts: dict[bytes, list[bytes]], rules: Rules) -> None:
        self._texts = texts
        self._rules = {b"": self._with_files(rules, b"")}
        self._hidden: bytes | None = None  # begins each path in a hidden folder
        self._places: dict[bytes, int] = {}
        self._taken: list[Entry] = []

    def _with_files(self, rules: Rules, path: bytes) -> Rules:
        for text in self._texts.get(path, ()):
            rules.add(text)
        return rules

    def run(self, entries: Iterable[Entry]) -> list[Entry]:
        for entry in entries:
            if self._hidden is not None and entry.path.startswith(self._hidden):
                continue
            folder, _, name = entry.path.rpartition(b"/")
            is_folder = entry.kind == FOLDER
            rules = self._rules[folder]
            if rules.hides(name, is_folder=is_folder):
                self._hidden = entry.path + b"/"
                self._count(folder)
                continue
            if is_folder:
                self._places[entry.path] = len(self._taken)
                self._rules[entry.path] = self._with_files(
                    rules.enter(name), entry.path
                )
            self._taken.append(entry)
        return self._taken

    def _count(self, folder: bytes) -> None:
        if folder:
            place = self._places[folder]
            old = self._taken[place]
            self._taken[place] = structs.replace(old, size=old.size + 1)
