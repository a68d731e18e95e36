"""AsyncClientPool: which connections there are, by name."""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import Self

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.group import AsyncGroup, GroupVerbs, in_parallel
from mlepool.client.groups.ward import Quarantined, Ward
from mlepool.client.links.handshake import WEBSOCKET
from mlepool.client.links.trust import Target
from mlepool.client.sweeps.methods import leave_sweeps
from mlepool.config import DEFAULT_PORT
from mlepool.errors import ConfigError

__all__ = ["AsyncClientPool"]

# Loaded now and not by the first dial: a program may drop its rights before that.
importlib.import_module(WEBSOCKET)

# Who adds hosts one by one need not load what reads files of them.
_LOADING = "mlepool.client.inventory.loading"


def _make_target(host: str, port: int, token: str | None) -> Target:
    """Read where a worker is.

    Raises:
        ConfigError: If ``host`` is no host, address or URL, or there is no such port.
        TypeError: If one of them has the wrong type.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {host!r}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be an int, not {port!r}")
    if not isinstance(token, str | None):
        raise TypeError(f"token must be a str or None, not {type(token).__name__}")
    if not 0 < port < 65536:
        raise ConfigError(f"port must be 1 to 65535, not {port}")
    target = Target.parse(host, port)
    return target._replace(token=token) if token is not None else target


class AsyncClientPool(GroupVerbs):
    """Connections to any number of workers, by name, in the order they were added.

    It has the verbs of a :class:`~mlepool.AsyncGroup`: they are for all connections
    that are not closed. ``async with`` closes all of them at its end.

    A host is a name here: one worker under two names (``unix:`` and its address, say)
    is two hosts, and what is run on all runs there twice.

    Attributes:
        groups: Names of hosts by a group's name, for ``pool["@train"]``.
    """

    def __init__(self) -> None:
        self._connections: dict[str, AsyncConnection] = {}
        self.groups: dict[str, list[str]] = {}
        self._groups = self.groups
        self._ward = Ward()

    def add(
        self,
        host: str,
        port: int = DEFAULT_PORT,
        *,
        name: str | None = None,
        token: str | None = None,
        labels: dict[str, str] | None = None,
        enter_connect: bool = True,
        enter_connect_timeout: float | None = None,
        raise_error: bool = False,
        proxy: str | None = None,
        connect_timeout: float | None = None,
        reconnect_timeout: float | None = None,
    ) -> AsyncConnection:
        """Add a connection; it is not opened yet: its first call does that.

        Args:
            host: A name, an address, ``host:port``, a ``ws://`` or ``wss://`` URL, a
                join URL, or ``unix:`` for the local socket (of a state folder, if one
                follows).
            port: The TCP port, where ``host`` names none.
            name: What to call it; ``host``, or ``host:port`` for an unusual port.
            token: The worker's token; by default the one that is known for its key.
            labels: Free-form labels.
            enter_connect: Have ``async with`` connect.
            enter_connect_timeout: Seconds that ``async with`` may take to connect.
            raise_error: Default of the keyword for all calls of this connection.
            proxy: URL of an HTTP or SOCKS proxy; the system's by default.
            connect_timeout: Seconds that connecting may take where no other limit is
                given; 30 by default.
            reconnect_timeout: Seconds after which to dial no more after a lost link;
                0 for not at all, None for ever.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If the pool has an open connection of that name, or ``host``
                is not usable, or a time is below 0.
        """
        target = _make_target(host, port, token)
        connection = AsyncConnection(
            target,
            name=name,
            labels=labels,
            enter_connect=enter_connect,
            enter_connect_timeout=enter_connect_timeout,
            raise_error=raise_error,
            proxy=proxy,
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
        )
        return self.enter(connection)

    def enter(self, connection: AsyncConnection) -> AsyncConnection:
        """Add a connection that was made elsewhere.

        Raises:
            ValueError: If the pool has an open one of that name.
        """
        known = self._connections.get(connection.name)
        if known is not None and not known.is_closed:
            raise ValueError(
                f"the pool has a connection {connection.name!r} already; "
                "close it, or give this one another name="
            )
        self._connections.pop(connection.name, None)
        self._connections[connection.name] = connection
        return connection

    def load(self, path: str | os.PathLike[str] | None = None) -> AsyncGroup:
        """Add the hosts of an inventory, and its groups; none is connected yet.

        Hosts that the pool has already stay as they are, so twice is fine; a group is
        what the file says that was loaded last.

        Args:
            path: A ``hosts.toml``, by default ``~/.config/mlepool/hosts.toml``; or an
                inventory of Ansible's (``.ini``, ``.yml``), of which what can't be
                ours is left out, and logged.

        Returns:
            All hosts of the inventory.

        Raises:
            ConfigError: If it can't be read, or is wrong: says where. Nothing changes.
        """
        open_ones = {one.name for one in self._called()}
        loading = importlib.import_module(_LOADING)
        names, groups = loading.load(path, self.enter, without=open_ones)
        self.groups.update(groups)
        members = [self._connections[name] for name in names]
        return AsyncGroup(members, ward=self._ward, groups=self._groups)

    async def remove(self, name: str) -> None:
        """Close a connection and take it out.

        Raises:
            KeyError: If there is none of that name.
        """
        connection = self._connections.get(name)
        if connection is None:
            raise KeyError(f"the pool has no {name!r}")
        await connection.close()
        self._connections.pop(name, None)

    async def close(self) -> None:
        """Close all connections, side by side; begin nothing more. Twice is fine."""
        self._ward.close()
        await leave_sweeps(self)
        await in_parallel(one.close() for one in self)

    @property
    def quarantined(self) -> dict[str, Quarantined]:
        """The hosts that calls of groups leave out for now: why, and until when.

        A host is left out for a minute after three faults in a row, while others fared
        well in the same calls: it could not be connected; or, in calls that take a
        failed command for a fault (``raise_error``, ``fail_fast``, ``max_failures``,
        ``retries``), the command failed within 5 seconds. After that the next call
        lets it back if it gives a sign of life; else it is left out twice as long, up
        to an hour.
        """
        return self._ward.quarantined

    def release(self, name: str) -> None:
        """Let a host back that is left out; nothing if it is not.

        Raises:
            KeyError: If the pool has none of that name.
        """
        if name not in self._connections:
            raise KeyError(f"the pool has no {name!r}")
        self._ward.release(name)

    def _members(self) -> list[AsyncConnection]:
        return list(self._connections.values())

    def _called(self) -> list[AsyncConnection]:
        return [one for one in self._connections.values() if not one.is_closed]

    def __contains__(self, name: object) -> bool:
        return name in self._connections or super().__contains__(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self._connections) or 'empty'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
