"""Ansible's inventories in its INI format."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from mlepool.client.inventory.foreign.draft import Draft, shown
from mlepool.client.inventory.foreign.patterns import spread_pattern
from mlepool.client.inventory.foreign.texts import read_text
from mlepool.errors import ConfigError

__all__ = ["EVERYBODY", "NO_GROUPS", "read_ansible_ini"]

EVERYBODY = "all"  # Ansible has these groups by itself
NO_GROUPS = (EVERYBODY, "ungrouped")

_SECTION = re.compile(r"\[([^\]:]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_KINDS = ("hosts", "children", "vars")


def read_ansible_ini(path: Path) -> Draft:
    """Read hosts, groups, groups of groups, and variables.

    ``ansible_host`` is the address; what else begins with ``ansible_`` is about ssh.
    Plain variables become labels; secrets do not.

    Raises:
        ConfigError: If it can't be read: says where.
    """
    reader = _Reader(path)
    reader.read(read_text(path))
    reader.draft.prune()
    return reader.draft


class _Reader:
    def __init__(self, path: Path) -> None:
        self.draft = Draft()
        self._path = path
        self._line = 0
        self._group, self._kind = "ungrouped", "hosts"

    def read(self, text: str) -> None:
        """Read all lines."""
        if text.startswith("#!"):
            cause = "it is a program: save what it says, as YAML, and import that"
            raise ConfigError(
                f"{self._path}: {cause} (ansible-inventory --list --yaml)"
            )
        for self._line, line in enumerate(text.splitlines(), start=1):
            stripped = line.strip()
            if stripped.startswith("["):
                self._open(stripped)
            elif stripped and stripped[0] not in "#;":
                self._take(stripped)

    def _open(self, line: str) -> None:
        """Begin a section."""
        match = _SECTION.fullmatch(line)
        if match is None or (match[2] or "hosts") not in _KINDS:
            raise self._fault(f"{shown(line)} is no section: [name], [name:children]")
        self._group, self._kind = match[1].strip(), match[2] or "hosts"
        if self._group not in NO_GROUPS:
            self.draft.group(self._group)

    def _take(self, line: str) -> None:
        if self._kind == "vars":
            self._take_variable(line)
        elif self._kind == "children":
            child = self._words(line)[0]
            if self._group not in NO_GROUPS:
                self.draft.group(child)
                self.draft.group(self._group).children[child] = None
        else:
            self._take_hosts(self._words(line))

    def _take_variable(self, line: str) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            raise self._fault(f"{shown(key)} is no variable: write NAME=VALUE")
        labels = self.draft.defaults
        if self._group not in NO_GROUPS:
            labels = self.draft.group(self._group).labels
        self.draft.add_labels(labels, dict([_variable(key, value)]), self._group)

    def _take_hosts(self, words: list[str]) -> None:
        pairs = [one.partition("=") for one in words[1:]]
        if not all(equals for _, equals, _ in pairs):
            raise self._fault(f"{shown(words[0])}: what follows a host is NAME=VALUE")
        variables = dict(_variable(key, value) for key, _, value in pairs)
        address = variables.get("ansible_host", "")
        for name in self._names(words[0]):
            if not self.draft.add_host(name, address):
                continue
            self.draft.add_labels(self.draft.labels[name], variables, words[0])
            if self._group not in NO_GROUPS:
                self.draft.group(self._group).hosts[name] = None

    def _names(self, pattern: str) -> Iterator[str]:
        try:
            yield from spread_pattern(pattern)
        except ConfigError as exc:
            raise self._fault(str(exc)) from None

    def _words(self, line: str) -> list[str]:
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = list(lexer)
        except ValueError:
            raise self._fault("a quotation mark is missing") from None
        return words or [""]

    def _fault(self, cause: str) -> ConfigError:
        return ConfigError(f"{self._path}:{self._line}: {cause}")


def _variable(key: str, value: str) -> tuple[str, str]:
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return key.strip(), text
