"""AsyncClientPool: which connections there are, by name."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from mlepool.client.connection import AsyncConnection
from mlepool.client.files.methods import texts_in
from mlepool.client.links.trust import Target
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import Kind, split_options
from mlepool.config import DEFAULT_PORT
from mlepool.errors import ConfigError

__all__ = ["AsyncClientPool", "make_target"]

# Files take libraries that a program which only runs commands need not load.
_SHARING = "mlepool.client.files.sharing"

MAX_DIALS = 100  # connections opened at once: more only wait for each other


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


class AsyncClientPool:
    """Connections to any number of workers, by name, in the order they were added.

    ``async with`` closes all of them at its end.
    """

    def __init__(self) -> None:
        self._connections: dict[str, AsyncConnection] = {}

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
        connection = self[name]
        await connection.close()
        self._connections.pop(name, None)

    async def connect(self, *, max_parallel: int | None = None) -> None:
        """Connect all that are not connected, side by side.

        Args:
            max_parallel: How many at once; 100 by default.

        Raises:
            ExceptionGroup: Of every ConnectError; the others are connected.
        """
        gate = asyncio.Semaphore(max_parallel or MAX_DIALS)

        async def connect(connection: AsyncConnection) -> None:
            async with gate:
                await connection.connect()

        await self._all(connect(one) for one in self if not one.is_closed)

    async def sync(
        self,
        source: str | os.PathLike[str],
        destination: str | os.PathLike[str],
        *,
        delete: bool = False,
        exclude: str | Iterable[str] = (),
        ignore_files: str | Iterable[str] = (".gitignore", ".mlepoolignore"),
        dry_run: bool = False,
        checksum: bool = False,
        force: bool = False,
        **keywords: Any,
    ) -> dict[str, AsyncListener]:
        """Make a folder on all workers like one here, which is read only once.

        As :meth:`AsyncConnection.sync`, on each connection that is not closed, side by
        side: none waits for another, and one that fails stops no other.

        Args:
            source: The folder to read, here.
            destination: The folder to write, on each worker.
            delete: What is not in the source goes to the trash; ignored files stay.
            exclude: Patterns of what to leave out, as lines of a ``.gitignore``.
            ignore_files: Names of files in the tree that hold such patterns.
            dry_run: Only say what would be done.
            checksum: Compare content, also where size and time are the same.
            force: Also if the source is empty, or most of the target would be deleted.
            keywords: ``complete``, ``timeout``, ``max_interval``, ``raise_error``.

        Returns:
            The listener of each, by the connection's name.

        Raises:
            ExceptionGroup: Once all have ended, of those that have no link or came to
                their ``timeout``, and with ``raise_error`` of all that failed; notes
                say where. ``complete=False`` gives the listeners in any case.
            TypeError: For a keyword that there is not.
        """
        options, rest = split_options(keywords, kind=Kind.VALUE)
        if rest or options.echo_response:
            name = next(iter(rest), "echo_response")
            raise TypeError(f"a pool's sync() has no keyword {name!r}")
        sharing = importlib.import_module(_SHARING)
        chosen = sharing.SyncOptions(
            delete=delete,
            checksum=checksum,
            dry_run=dry_run,
            force=force,
            exclude=texts_in("exclude", exclude),
        )
        begin = sharing.share_sync(
            source,
            destination,
            exclude=chosen.exclude,
            ignore_files=texts_in("ignore_files", ignore_files),
            sync_options=chosen,
            options=options,
        )
        return await self._run_on_each(begin)

    async def _run_on_each(self, begin: Any) -> dict[str, AsyncListener]:
        taken = [one for one in self if not one.is_closed]
        runs = [one.run_here(begin) for one in taken]
        found = await asyncio.gather(*runs, return_exceptions=True)
        listeners: dict[str, AsyncListener] = {}
        errors = []
        for connection, one in zip(taken, found, strict=True):
            if isinstance(one, BaseException):
                one.add_note(f"on {connection.name}")
                errors.append(one)
            else:
                listeners[connection.name] = one
        if errors:
            text = f"{len(errors)} of {len(taken)} connections failed"
            raise BaseExceptionGroup(text, errors)
        return listeners

    async def close(self) -> None:
        """Close all connections, side by side. Twice is fine."""
        await self._all(one.close() for one in self)

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[AsyncConnection]:
        return iter(list(self._connections.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._connections

    def __getitem__(self, name: str) -> AsyncConnection:
        try:
            return self._connections[name]
        except KeyError:
            names = ", ".join(self._connections) or "it is empty"
            raise KeyError(f"the pool has no {name!r} ({names})") from None

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

    async def _all(self, awaitables: Any) -> None:
        results = await asyncio.gather(*awaitables, return_exceptions=True)
        errors = [one for one in results if isinstance(one, BaseException)]
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} connections failed", errors)
