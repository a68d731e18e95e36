"""A Dask cluster as jobs: begun on all hosts, watched, and stopped with proof."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import urllib.parse
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple

from mlepool.client.connection import AsyncConnection
from mlepool.client.dask.certificates import Authority, Credentials
from mlepool.client.dask.part import Part
from mlepool.errors import ClientError, MlepoolError
from mlepool.wire.values import StopReport

__all__ = ["Cluster", "Wishes"]

logger = logging.getLogger("mlepool.client")

STOP_LIMIT = 30.0  # seconds that the end of one host's job may take
REACH_LIMIT = 5.0  # seconds to open a connection to the scheduler
LOOPBACK = {"": "127.0.0.1", "localhost": "127.0.0.1"}  # "" is a unix socket's
LOCAL = {"127.0.0.1", "::1"}


class Wishes(NamedTuple):
    """What a cluster is to be; more is said at ``pool.dask()``.

    Attributes:
        scheduler: Name of the host that runs the scheduler; None for the first.
        workers_per_host: How many processes work on each.
        threads: Threads of each; None to share the host's processors.
        memory_limit: Of each, as Dask has it; None for a share of the host's.
        python: The program that runs it; None for what runs mlepool's worker.
        address: Where the scheduler is reached; None to go by its connection.
        orphan_timeout: Seconds for which it goes on without a client.
    """

    scheduler: str | None = None
    workers_per_host: int = 1
    threads: int | None = None
    memory_limit: str | float | None = None
    python: str | None = None
    address: str | None = None
    orphan_timeout: float = 60.0


class Cluster:
    """A scheduler and workers on some hosts.

    All of it is for the event loop's thread.

    Args:
        connections: The ways to the hosts.
        wishes: What it is to be.
        version: The version of Dask's ``distributed`` that all need.

    Raises:
        ValueError, KeyError: If there is no host, or a wish makes no sense.

    Attributes:
        address: Where the scheduler is, as Dask writes it; set by :meth:`start`.
        scheduler: The job of the scheduler.
        workers: The jobs of the workers, one for each host.
        credentials: What a client shows.
    """

    def __init__(
        self, connections: Iterable[AsyncConnection], wishes: Wishes, *, version: str
    ) -> None:
        self._connections = {one.name: one for one in connections}
        _check(wishes, self._connections)
        self._wishes = wishes
        self._version = version
        self._authority = Authority()
        self._watches: list[asyncio.Task[None]] = []
        self._listen: str | None = None  # loopback alone, where all of it is local
        self.address = ""
        self.scheduler: Part | None = None
        self.workers: list[Part] = []
        self.credentials: Credentials = self._authority.credentials("client")

    async def start(self, seconds: float, *, tls: ssl.SSLContext) -> None:
        """Begin all, and wait until every worker is known to the scheduler.

        What was begun before a failure is left to :meth:`stop`.

        Args:
            seconds: How long it may take.
            tls: What a client dials with.

        Raises:
            ClientError: If that fails anywhere: names every host, and what to do.
        """
        limit = asyncio.get_running_loop().time() + seconds
        hosts = self._connections.values()
        await _all(self._connect(one, limit) for one in hosts)
        first = next(iter(self._connections))
        chief = self._connections[self._wishes.scheduler or first]
        host, port = self._place(chief)
        self.scheduler = Part(chief, kind="scheduler", python=self._wishes.python)
        self._listen = host if host in LOCAL else None
        place = {"listen": self._listen or "", "port": port}
        await self._begin(self.scheduler, place, limit)
        port = await self.scheduler.hear("port", limit=limit)
        self.address = f"tls://{f'[{host}]' if ':' in host else host}:{port}"
        await _reach(host, port, tls)
        self.workers = [
            Part(one, kind="workers", python=self._wishes.python) for one in hosts
        ]
        await _all(
            self._begin_workers(one, (host, port), limit) for one in self.workers
        )
        parts = [self.scheduler, *self.workers]
        self._watches = [asyncio.create_task(self._watch(one)) for one in parts]

    async def stop(self) -> list[StopReport]:
        """End all, workers first. What can't be asked is told of in a warning.

        Returns:
            What was signalled: for the scheduler, then for each host's workers.
        """
        for task in self._watches:
            task.cancel()
        ends = [self._end(one) for one in self.workers]
        reports = await asyncio.gather(*ends)
        first = None if self.scheduler is None else await self._end(self.scheduler)
        return [one for one in (first, *reports) if one is not None]

    async def _connect(self, connection: AsyncConnection, limit: float) -> None:
        try:
            async with asyncio.timeout_at(limit):
                await connection.connect()
        except MlepoolError as exc:
            raise ClientError(f"{connection.name}: {exc}") from exc
        except TimeoutError:
            raise ClientError(f"{connection.name}: not connected in time") from None

    async def _begin_workers(
        self, part: Part, place: tuple[str, int], limit: float
    ) -> None:
        count = self._wishes.workers_per_host
        many = [f"{part.host}-{number}" for number in range(1, count + 1)]
        settings = {
            "scheduler": (*place, REACH_LIMIT),
            "address": self.address,
            "listen": self._listen,
            "names": [part.host] if count == 1 else many,
            "threads": self._wishes.threads,
            "memory_limit": self._wishes.memory_limit or "auto",
        }
        await self._begin(part, settings, limit)
        await part.hear("ready", limit=limit)

    async def _begin(self, part: Part, settings: dict[str, Any], limit: float) -> None:
        shown = self._authority.credentials(f"{part.kind} on {part.host}")
        orphan_timeout = self._wishes.orphan_timeout
        given = {**settings, **shown._asdict()}
        await part.begin(given, orphan_timeout=orphan_timeout)
        there = await part.hear("distributed", limit=limit)
        python, ours = await part.hear("python", limit=limit), _python()
        if there != self._version:
            raise ClientError(
                f"{part.host} has distributed {there}, and this side {self._version}: "
                f"pip install distributed=={self._version} there"
            )
        if python != ours:
            raise ClientError(
                f"{part.host} runs Python {python}, and this side {ours}: functions "
                "are code of one of them; give python="
            )

    def _place(self, chief: AsyncConnection) -> tuple[str, int]:
        """Give the scheduler's host, and its port; 0 for any."""
        if self._wishes.address is None:
            host = chief._target.host
            return LOOPBACK.get(host, host), 0
        found = _address(self._wishes.address)
        host = found.hostname or ""
        return LOOPBACK.get(host, host), found.port or 0

    async def _end(self, part: Part) -> StopReport | None:
        try:
            async with asyncio.timeout(STOP_LIMIT):
                return await part.stop()
        except (MlepoolError, TimeoutError, OSError, LookupError) as exc:
            seconds = self._wishes.orphan_timeout
            text = "%s: could not stop Dask's %s: %s; it ends by itself in %g s"
            logger.warning(text, part.host, part.kind, exc or "no answer", seconds)
            return None

    async def _watch(self, part: Part) -> None:
        how = await part.watch()
        logger.warning("%s: Dask's %s ended: %s", part.host, part.kind, how)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all, and tell of all that failed.

    Raises:
        ClientError: Says each problem.
    """
    ends = await asyncio.gather(*work, return_exceptions=True)
    failed = [one for one in ends if isinstance(one, Exception)]
    for one in failed:
        if not isinstance(one, ClientError):
            raise one
    if failed:
        raise ClientError("; ".join(map(str, failed))) from failed[0]


async def _reach(host: str, port: int, tls: ssl.SSLContext) -> None:
    """See if there is a way from here to the scheduler."""
    try:
        async with asyncio.timeout(REACH_LIMIT):
            _, writer = await asyncio.open_connection(host, port, ssl=tls)
    except (OSError, TimeoutError) as exc:
        why = str(exc) or f"no answer within {REACH_LIMIT:g} s"
        raise ClientError(
            f"this host can't reach the scheduler at {host}:{port} ({why}): give "
            "address= by which it, and all hosts, can"
        ) from exc
    writer.close()


def _check(wishes: Wishes, connections: dict[str, AsyncConnection]) -> None:
    if not connections:
        raise ValueError("there is no host for Dask")
    if wishes.scheduler is not None and wishes.scheduler not in connections:
        raise KeyError(f"{wishes.scheduler!r} is none of {', '.join(connections)}")
    for name in ("workers_per_host", "threads"):
        value = getattr(wishes, name)
        if value is not None and (isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} must be 1 or more, not {value!r}")
    if wishes.address is not None:
        _address(wishes.address)


def _address(text: str) -> urllib.parse.SplitResult:
    """Read a host, ``host:port`` or ``tls://host:port``.

    Raises:
        ValueError: If it is none.
    """
    found = urllib.parse.urlsplit(text if "://" in text else f"tls://{text}")
    if found.scheme != "tls" or not found.hostname or found.path:
        raise ValueError(f"address is tls://host:port, host:port or host, not {text!r}")
    _ = found.port  # a ValueError if it is none
    return found


def _python() -> str:
    return ".".join(map(str, sys.version_info[:2]))
