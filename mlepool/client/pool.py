"""AsyncClientPool: which connections there are, by name."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.group import GroupVerbs, in_parallel
from mlepool.client.groups.ward import Ward
from mlepool.client.links.trust import Target
from mlepool.config import DEFAULT_PORT
from mlepool.errors import ConfigError

__all__ = ["AsyncClientPool", "make_target"]


def make_target(host: str, port: int, token: str | None) -> Target:
    """Read where a worker is.

    Raises:
        ConfigError: If ``host`` is no host, address or URL, or there is no such port.
        TypeError: If one of them has the wrong type.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {host!r}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be an int, not {port!r}")
    if not 0 < port < 65536:
        raise ConfigError(f"port must be 1 to 65535, not {port}")
    target = Target.parse(host, port)
    return target._replace(token=token) if token is not None else target


class AsyncClientPool(GroupVerbs):
    """Connections to any number of workers, by name, in the order they were added.

    It has the verbs of a :class:`~mlepool.AsyncGroup`: they are for all connections
    that are not closed. ``async with`` closes all of them at its end.

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
        **options: Any,
    ) -> AsyncConnection:
        """Add a connection; it is not opened yet.

        Args:
            host: A name, an address, ``host:port``, a ``ws://`` or ``wss://`` URL, a
                join URL, or ``unix:`` for the local socket (of a state folder, if one
                follows).
            port: The TCP port, where ``host`` names none.
            name: What to call it; ``host``, or ``host:port`` for an unusual port.
            token: The worker's token; by default the one that is known for its key.
            options: ``labels``, ``enter_connect``, ``enter_connect_timeout``,
                ``raise_error``, ``proxy``, ``reconnect_timeout`` of
                :class:`AsyncConnection`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If the pool has an open connection of that name, or ``host``
                is not usable.
        """
        target = make_target(host, port, token)
        return self.enter(AsyncConnection(target, name=name, **options))

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
        await in_parallel(one.close() for one in self)

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
