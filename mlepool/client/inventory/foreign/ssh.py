"""Names of hosts from ssh's configuration."""

from __future__ import annotations

import fnmatch
import glob
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlepool.client.inventory.foreign.draft import MAX_DEPTH, Draft
from mlepool.client.inventory.foreign.texts import read_text
from mlepool.errors import ConfigError

__all__ = ["read_ssh_config"]

MAX_FILES = 1000
WAYS = ("proxyjump", "proxycommand")
WANTED = ("hostname", *WAYS)


class _Block(NamedTuple):
    """What is said under one ``Host``.

    Attributes:
        patterns: For which names; none for ``Match``, which can't be told here.
        settings: The first value of each keyword that matters.
    """

    patterns: list[str]
    settings: dict[str, str]

    def is_for(self, name: str) -> bool:
        """Tell if it holds for a name, as ssh does."""
        if any(one[0] == "!" and _is_like(name, one[1:]) for one in self.patterns):
            return False
        return any(_is_like(name, one) for one in self.patterns)


def read_ssh_config(path: Path) -> Draft:
    """Read which hosts an ssh configuration names, and where they are.

    Patterns name no host, but what they say of names counts. Ports are ssh's and of no
    use here. Hosts that ssh reaches through another are noted.

    Raises:
        ConfigError: If it can't be read: says where.
    """
    reader = _Files(path.parent)
    first = _Block(["*"], {})
    blocks = [first, *reader.blocks(path, first, depth=0)]
    draft = Draft()
    for name in dict.fromkeys(one for block in blocks for one in block.patterns):
        if not set("*?!") & set(name):
            _add(draft, name, blocks)
    return draft


def _add(draft: Draft, name: str, blocks: list[_Block]) -> None:
    found: dict[str, str] = {}
    for block in blocks:
        if block.is_for(name):
            found = {**block.settings, **found}
    address = found.get("hostname", "").replace("%h", name).replace("%%", "%")
    if not draft.add_host(name, address):
        return
    if any(found.get(way, "none").lower() != "none" for way in WAYS):
        draft.note(
            f"ssh reaches {name} through another host; mlepool dials it directly, or "
            "by the proxy that you name"
        )


class _Files:
    """Reads a configuration, and what it includes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = MAX_FILES

    def blocks(self, path: Path, current: _Block, *, depth: int) -> Iterator[_Block]:
        """Give the blocks of a file; what stands before the first is added to one."""
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise ConfigError(f"{path}: too many files are included")
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            keyword, values = _parse(line, f"{path}:{number}")
            if keyword in ("host", "match"):
                current = _Block(values if keyword == "host" else [], {})
                yield current
            elif keyword == "include":
                for file in self._included(values):
                    yield from self.blocks(file, current, depth=depth + 1)
            elif keyword in WANTED and values:
                current.settings.setdefault(keyword, values[0])

    def _included(self, patterns: list[str]) -> Iterator[Path]:
        for pattern in patterns:
            whole = os.path.join(self._folder, os.path.expanduser(pattern))
            yield from (Path(one) for one in sorted(glob.glob(whole)))


def _parse(line: str, where: str) -> tuple[str, list[str]]:
    """Part a line into its keyword, in small letters, and its values."""
    text = line.strip()
    if not text or text.startswith("#"):
        return "", []
    try:
        words = shlex.split(text.replace("=", " ", 1) if _has_equals(text) else text)
    except ValueError as exc:
        raise ConfigError(f"{where}: {str(exc)[:1].lower()}{str(exc)[1:]}") from None
    return words[0].lower() if words else "", [one for one in words[1:] if one]


def _has_equals(text: str) -> bool:
    """Tell if a keyword and its value have a ``=`` between them."""
    keyword = text.split("=", 1)[0].rstrip()
    return "=" in text and " " not in keyword and "\t" not in keyword


def _is_like(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
