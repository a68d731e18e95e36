"""Which hosts the prompt knows: the inventory's, trusted ones, and this machine's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from mlepool.client.inventory.reading import default_path, read
from mlepool.client.links.trust import Target, TrustStore, local_workers
from mlepool.client.sync import ClientPool, Connection

__all__ = ["fill", "keep", "members"]


def fill(pool: ClientPool) -> None:
    """Add the hosts that this account knows and the pool has not; none is connected.

    Raises:
        ConfigError: If what is known can't be read.
    """
    addresses = set()
    if default_path().exists():
        pool.load()
        listed = [one.target() for one in read().hosts.values()]
        addresses = {(one.host, one.port) for one in listed}
    for target, url in _trusted():
        # What is listed and trusted is one host: by its name in the list.
        if target.name not in pool and (target.host, target.port) not in addresses:
            pool.add(url, name=target.name)


def keep(pool: ClientPool, names: Collection[str]) -> None:
    """Take out all other hosts."""
    for connection in pool:
        if connection.name not in names:
            pool.remove(connection.name)


def members(pool: ClientPool, hosts: str) -> list[Connection]:
    """Give the connections that a name or a set of names means.

    Raises:
        KeyError: If there is no such host.
        ConfigError: If it is no set.
    """
    found: Any = pool[hosts]
    return [found] if isinstance(found, Connection) else list(found)


def _trusted() -> Iterator[tuple[Target, str]]:
    """Give hosts and their addresses; which key and token is theirs, their key says."""
    trusted = TrustStore().load()
    for one in trusted.values():
        target = Target(one.host, one.port, one.scheme)
        yield target, target.url
    for worker in local_workers():
        if worker.key not in trusted:
            # Its socket is there whatever address and scheme it listens on.
            yield Target("localhost", worker.port), f"unix:{worker.state_dir}"
