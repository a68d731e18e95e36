"""Which hosts this account knows: those of its inventory, those trusted, those here.

Completion asks this at each press of a key: it loads little.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mlepool.cli.streams import complain
from mlepool.client.links.trust import THIS_MACHINE, Target, TrustStore, local_workers
from mlepool.config import config_dir
from mlepool.errors import ConfigError

__all__ = [
    "Book",
    "Place",
    "known_places",
    "listed",
    "local_places",
    "read_book",
    "spelled",
]

HOSTS_FILE = "hosts.toml"  # in the folder of settings
# Reads that file; not at the top: there may be none.
_READING = "mlepool.client.inventory.reading"


class Place(NamedTuple):
    """Where a host is, and what is known of it here.

    Attributes:
        target: How it is reached.
        options: As :class:`AsyncConnection` takes them: from the inventory.
    """

    target: Target
    options: Mapping[str, Any] = {}


class Book(NamedTuple):
    """The inventory: its hosts by name, and groups of them."""

    hosts: Mapping[str, Any] = {}
    groups: Mapping[str, Collection[str]] = {}


def known_places() -> dict[str, Place]:
    """Give all that this account knows: its inventory, whom it trusts, who is here."""
    found = {name: _told(host) for name, host in read_book().hosts.items()}
    # What is listed and trusted, or local, is one host: by its name in the list.
    addresses = {_address(one.target) for one in found.values()}
    for key, known in TrustStore().load().items():
        target = Target(known.host, known.port, known.scheme, key, known.token)
        if _address(target) not in addresses:
            found.setdefault(spelled(target), Place(target))
    trusted = {one.target.key for one in found.values()}
    names = {Target(*address).name for address in addresses}
    for name, here in local_places(trusted).items():
        if name not in names and _address(here.target) not in addresses:
            found.setdefault(name, here)
    return found


def local_places(without: Collection[str] = ()) -> dict[str, Place]:
    """Give the workers of this account on this machine.

    Args:
        without: Keys of those to leave out.
    """
    found: dict[str, Place] = {}
    for one in local_workers():
        if one.key in without:
            continue
        # The socket is there whatever address and scheme the worker listens on.
        socket = Target(str(one.state_dir), 0, "unix")
        name = Target("localhost", one.port).name
        # Two may have one port: a worker that was killed has left its name behind.
        found[spelled(socket) if name in found else name] = Place(socket)
    return found


def read_book() -> Book:
    """Read the inventory, if there is one."""
    if not (config_dir() / HOSTS_FILE).exists():
        return Book()
    found = importlib.import_module(_READING).read()
    return Book(found.hosts, found.groups)


def _address(target: Target) -> tuple[str, int]:
    """Give where a host is, the same for all names of this machine."""
    host = "localhost" if target.host in THIS_MACHINE else target.host
    return host, target.port


def _told(host: Any) -> Place:
    """Give a host's place, also if its token can't be read: others go on."""
    try:
        return listed(host)
    except ConfigError as exc:
        complain(str(exc))
        return Place(host.place, host.options())


def listed(host: Any) -> Place:
    """Give where a host of the inventory is.

    Raises:
        ConfigError: If its address is none, or its token can't be read.
    """
    return Place(host.target(), host.options())


def spelled(target: Target) -> str:
    """Name a worker so that ``-H`` finds it again; no token is in it."""
    if target.scheme == "unix":
        return f"unix:{target.host}"
    return target.url if target.scheme == "ws" else target.name
