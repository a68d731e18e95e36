"""Ansible's inventories in YAML."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlepool.client.inventory.foreign.ansible_ini import EVERYBODY, NO_GROUPS
from mlepool.client.inventory.foreign.draft import MAX_DEPTH, Draft
from mlepool.client.inventory.foreign.patterns import spread_pattern
from mlepool.client.inventory.foreign.texts import read_text
from mlepool.errors import ConfigError

__all__ = ["read_ansible_yaml"]

_UNKNOWN = object()  # what has a tag of Ansible's: !vault, !unsafe


def read_ansible_yaml(path: Path) -> Draft:
    """Read hosts, groups in groups, and variables, as of the INI format.

    Raises:
        ConfigError: If it can't be read, or PyYAML is not there.
    """
    values = _parse(path)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: it should be a table of groups")
    reader = _Reader(path)
    for name, value in values.items():
        reader.read_group(str(name), value, depth=0)
    reader.draft.prune()
    return reader.draft


def _parse(path: Path) -> Any:
    text = read_text(path)
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        cause = "YAML takes PyYAML: pip install 'mlepool[ansible]'"
        raise ConfigError(f"{path}: {cause}") from None

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        """Makes plain values only."""

    Loader.add_multi_constructor("!", lambda *_: _UNKNOWN)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        # What stands there may be a secret, and is not shown.
        cause = getattr(exc, "problem", None) or "it can't be read"
        raise ConfigError(f"{path}{line}: {cause}") from None


class _Reader:
    def __init__(self, path: Path) -> None:
        self.draft = Draft()
        self._path = path
        self._seen: dict[int, Any] = {}  # YAML may have one table in many places

    def read_group(self, name: str, value: Any, *, depth: int) -> None:
        """Read a group, and those in it."""
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self._path}: groups are nested over {MAX_DEPTH} deep")
        if name not in NO_GROUPS:
            self.draft.group(name)
        if value is None or id(value) in self._seen:
            return
        table = self._table(value, f"group {name}")
        self._seen[id(value)] = value
        self._read_variables(name, self._table(table.get("vars"), f"vars of {name}"))
        hosts = self._table(table.get("hosts"), f"hosts of {name}")
        for pattern, variables in hosts.items():
            self._read_hosts(name, str(pattern), variables)
        children = self._table(table.get("children"), f"children of {name}")
        for child, inner in children.items():
            self.read_group(str(child), inner, depth=depth + 1)
            if name not in NO_GROUPS and str(child) not in NO_GROUPS:
                self.draft.group(name).children[str(child)] = None

    def _read_variables(self, name: str, variables: Mapping[Any, Any]) -> None:
        if name == EVERYBODY:
            labels = self.draft.defaults
        elif name in NO_GROUPS:
            return
        else:
            labels = self.draft.group(name).labels
        self.draft.add_labels(labels, variables, name)

    def _read_hosts(self, group: str, pattern: str, value: Any) -> None:
        variables = self._table(value, f"host {pattern}")
        address = variables.get("ansible_host", "")
        if not isinstance(address, str):
            raise ConfigError(
                f"{self._path}: {pattern[:80]}: its ansible_host is no text"
            )
        try:
            names = list(spread_pattern(pattern))
        except ConfigError as exc:
            raise ConfigError(f"{self._path}: {pattern[:80]}: {exc}") from None
        for name in names:
            if not self.draft.add_host(name, address):
                continue
            self.draft.add_labels(self.draft.labels[name], variables, pattern)
            if group not in NO_GROUPS:
                self.draft.group(group).hosts[name] = None

    def _table(self, value: Any, what: str) -> Mapping[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self._path}: {what[:80]}: it should be a table")
        return value
