"""hosts.toml: hosts, their labels, groups of them, and what holds for a group."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from mlepool.client.inventory.brackets import MAX_NAMES, V6, spread_parts
from mlepool.client.inventory.entries import (
    Entry,
    Where,
    check_entry,
    check_shape,
    fill_in,
    put_together,
    unknown_key,
)
from mlepool.client.inventory.faults import printable
from mlepool.client.inventory.membership import Membership
from mlepool.client.inventory.model import Host, Inventory
from mlepool.config import config_dir
from mlepool.errors import ConfigError
from mlepool.settings.files import ConfigFile, read_file
from mlepool.settings.properties import check_name

__all__ = ["HOSTS_FILE", "check_host_name", "default_path", "read", "read_parsed"]

HOSTS_FILE = "hosts.toml"  # in the account's folder for settings
TABLES = ("defaults", "hosts", "groups")
MEMBERS = "members"  # the key of a group that names them
ADDRESS = "address"
MAX_SHOWN = 80  # characters of a name that is wrong

_SIGNS = re.compile(r"[\[\],!&^*?\s]|^@")
_ADDRESS = re.compile(rf"\[{V6.pattern}\]")


def default_path() -> Path:
    """Give where this account's inventory is: ``~/.config/mlepool/hosts.toml``.

    Elsewhere than on Linux it is where that platform has settings, and in
    ``MLEPOOL_HOME`` where that is set.
    """
    return config_dir() / HOSTS_FILE


def read(path: str | Path | None = None) -> Inventory:
    """Read an inventory.

    Args:
        path: The file; by default :func:`default_path`, which need not be there.

    Raises:
        ConfigError: If it can't be read, or something in it is wrong: says where.
    """
    if path is None:
        chosen = default_path()
        if not chosen.exists():
            return Inventory()
    else:
        chosen = Path(path).expanduser()
    return read_parsed(read_file(chosen))


def read_parsed(file: ConfigFile) -> Inventory:
    """Make an inventory of a file that was read.

    Raises:
        ConfigError: If something in it is wrong: says where.
    """
    return _Reader(file).inventory()


class _Reader:
    """Makes an inventory of a file."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self._folder = file.path.parent
        self._own: dict[str, list[Entry]] = {}  # what is said of each host itself

    def inventory(self) -> Inventory:
        """Read all of the file."""
        for key in self._file.values:
            if key not in TABLES:
                raise unknown_key(key, TABLES, self._at())
        defaults = self._entry("defaults", self._table("defaults"))
        for text in self._table("hosts"):
            self._read_hosts(text)
        groups = {name: self._group(name) for name in self._table("groups")}
        texts = {name: members for name, (members, _) in groups.items()}
        members = Membership(texts, list(self._own), self._at("groups")).resolve()
        inside: dict[str, list[str]] = {name: [] for name in self._own}
        for group, names in members.items():
            for name in names:
                inside[name].append(group)
        hosts = {}
        for name, its_groups in inside.items():
            layers = [defaults, *(groups[one][1] for one in its_groups)]
            hosts[name] = self._host(name, its_groups, [*layers, *self._own[name]])
        return Inventory(path=self._file.path, hosts=hosts, groups=members)

    def _read_hosts(self, text: str) -> None:
        """Note what an entry says of each host that it names."""
        value = self._table("hosts")[text]
        table = {ADDRESS: value} if isinstance(value, str) else value
        entry = self._entry("hosts", table, text)
        try:
            for name, numbers in spread_parts(text, most=MAX_NAMES - len(self._own)):
                check_host_name(name)
                own = dict(entry)
                if ADDRESS in own:
                    own[ADDRESS] = fill_in(own[ADDRESS], name, numbers)
                self._own.setdefault(name, []).append(own)
        except ValueError as exc:
            shown = printable(text[:MAX_SHOWN])
            raise ConfigError(f"{self._at('hosts', text)()}: {shown}: {exc}") from None

    def _group(self, name: str) -> tuple[list[str], Entry]:
        """Read who is in a group, and what is said of them."""
        where = self._at("groups", name)
        value = self._table("groups")[name]
        table = value if isinstance(value, dict) else {MEMBERS: value}
        texts = table.get(MEMBERS, [])
        texts = [texts] if isinstance(texts, str) else texts
        try:
            check_host_name(name)
        except ValueError as exc:
            raise ConfigError(f"{where()}: {exc}") from None
        members = check_shape(texts, list[str], where)
        return members, self._entry("groups", table, name)

    def _host(self, name: str, groups: list[str], layers: list[Entry]) -> Host:
        whole = put_together(layers)
        try:
            whole[ADDRESS] = fill_in(whole.get(ADDRESS, "{name}"), name, ())
        except ValueError as exc:
            raise ConfigError(f"{self._at('hosts')()}: {name}: {exc}") from None
        return Host(name=name, groups=tuple(groups), **whole)

    def _entry(self, kind: str, table: Any, *keys: str) -> Entry:
        where = self._at(kind, *keys)
        checked = check_shape(table, dict[str, Any], where)
        besides = (MEMBERS,) if kind == "groups" else ()
        return check_entry(checked, where, folder=self._folder, besides=besides)

    def _table(self, name: str) -> dict[str, Any]:
        table: dict[str, Any] = check_shape(
            self._file.values.get(name, {}), dict[str, Any], self._at(name)
        )
        return table

    def _at(self, *keys: str) -> Where:
        return functools.partial(self._file.where, *keys)


def check_host_name(name: str) -> None:
    """Check what a host or a group is called.

    Raises:
        ValueError: If that would read as a set of hosts, or is no name at all.
    """
    check_name(name)
    if _SIGNS.search(_ADDRESS.sub("", name, count=1)):
        raise ConfigError(f"{name!r}: a name has none of [ ] , ! & ^ * ? @ or blanks")
