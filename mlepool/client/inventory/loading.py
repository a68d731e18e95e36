"""From an inventory to the connections of a pool."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from mlepool.client.connection import AsyncConnection
from mlepool.client.inventory.reading import default_path, read
from mlepool.errors import ConfigError

__all__ = ["Loaded", "load"]

SUFFIXES = (".ini", ".yml", ".yaml")  # of Ansible's inventories

_IMPORTING = "mlepool.client.inventory.foreign.importing"  # takes more libraries

Loaded = tuple[list[str], dict[str, list[str]]]


def load(
    path: str | os.PathLike[str] | None,
    enter: Callable[[AsyncConnection], object],
    *,
    without: Collection[str],
) -> Loaded:
    """Read an inventory and make a connection for each host; none is opened.

    Args:
        path: A ``hosts.toml``, or an inventory of Ansible's by its suffix; None for
            the account's, which must be there.
        enter: Takes a connection in.
        without: Names of hosts that get none: they have one.

    Returns:
        The names of all hosts, and the groups.

    Raises:
        ConfigError: If it can't be read, or is wrong: nothing was taken in.
    """
    file = None if path is None else Path(path).expanduser()
    if file is not None and file.suffix.lower() in SUFFIXES:
        inventory = importlib.import_module(_IMPORTING).read_foreign(file)
    else:
        inventory = read(file)
    if inventory.path is None:
        raise ConfigError(f"there is no {default_path()}: write it, or name another")
    made = [
        AsyncConnection(host.target(), **host.options())
        for host in inventory.hosts.values()
        if host.name not in without
    ]
    for connection in made:
        enter(connection)
    groups = {name: list(members) for name, members in inventory.groups.items()}
    return list(inventory.hosts), groups
