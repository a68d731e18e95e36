"""ClientPool: the blocking pool, and the default one of this process."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.ward import Quarantined
from mlepool.client.pool import AsyncClientPool
from mlepool.client.portal import Portal
from mlepool.client.sync.connection import Connection
from mlepool.client.sync.groups import Group, GroupVerbs
from mlepool.client.sync.pages import connections_page
from mlepool.config import DEFAULT_PORT

__all__ = ["ClientPool", "add", "pool"]


class ClientPool(GroupVerbs):
    """Connections to any number of workers, by name, in the order they were added.

    As :class:`~mlepool.AsyncClientPool`, but blocking: it has the verbs of a
    :class:`~mlepool.Group`. ``with`` closes all at its end. A host is a name: one
    worker under two names is two hosts, and what is run on all runs there twice.
    """

    _async: AsyncClientPool

    # What add() makes; at a prompt it is one that connects when it is first used.
    _kind: type[Connection] = Connection

    def __init__(self) -> None:
        self._portal = _current_portal()
        self._async = AsyncClientPool()
        self._connections: dict[str, Connection] = {}

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
    ) -> Connection:
        """Add a connection; it is not opened yet: ``with`` or its first call does.

        Args:
            host: A name, an address, ``host:port``, a ``ws://`` or ``wss://`` URL, a
                join URL, or ``unix:`` for the local socket (of a state folder, if one
                follows).
            port: The TCP port, where ``host`` names none.
            name: What to call it; ``host``, or ``host:port`` for an unusual port.
            token: The worker's token; by default the one that is known for its key.
            labels: Free-form labels.
            enter_connect: Have ``with`` connect.
            enter_connect_timeout: Seconds that ``with`` may take to connect.
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
        connection = self._async.add(
            host,
            port,
            name=name,
            token=token,
            labels=labels,
            enter_connect=enter_connect,
            enter_connect_timeout=enter_connect_timeout,
            raise_error=raise_error,
            proxy=proxy,
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
        )
        blocking = self._kind(connection, self._portal)
        self._connections[connection.name] = blocking
        return blocking

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of hosts by a group's name, for ``pool["@train"]``."""
        return self._async.groups

    def load(self, path: str | os.PathLike[str] | None = None) -> Group:
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
        group = self._async.load(path)
        for connection in group:
            known = self._connections.get(connection.name)
            if known is None or known.is_closed:
                face = self._kind(connection, self._portal)
                self._connections[connection.name] = face
        return self._group(group)

    def remove(self, name: str) -> None:
        """Close a connection and take it out.

        Raises:
            KeyError: If there is none of that name.
        """
        self._portal.call(self._async.remove(name))
        self._connections.pop(name, None)

    def close(self) -> None:
        """Close all connections, side by side; begin nothing more. Twice is fine."""
        self._portal.call(self._async.close())

    @property
    def quarantined(self) -> dict[str, Quarantined]:
        """The hosts that calls of groups leave out for now: why, and until when.

        More is said at :attr:`AsyncClientPool.quarantined`.
        """
        return self._portal.do(lambda: self._async.quarantined)

    def release(self, name: str) -> None:
        """Let a host back that is left out; nothing if it is not.

        Raises:
            KeyError: If the pool has none of that name.
        """
        self._portal.do(lambda: self._async.release(name))

    def _face(self, connection: AsyncConnection) -> Connection:
        return self._connections[connection.name]

    def __repr__(self) -> str:
        return repr(self._async).replace("<AsyncClientPool", "<ClientPool", 1)

    def _repr_html_(self) -> str:
        return connections_page(self._async)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is KeyboardInterrupt:
            for connection in self:
                connection.leave_all()
        self.close()


_portal = Portal()
_inherited: list[Any] = []


def _current_portal() -> Portal:
    return _portal


def _start_anew() -> None:
    """In a forked child: the parent's loop is not there, so take a new one.

    The parent's connections are kept, unused: letting go of them here would close
    sockets under the parent's own loop objects, with a warning for each.
    """
    global _portal
    _inherited.append((_portal, pool._async, pool._connections))
    _portal = Portal()
    pool.__init__()  # type: ignore[misc]


pool = ClientPool()
add = pool.add

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
