"""AsyncGroup: some connections of a pool, with the verbs of one."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mlepool.client.catalogue.signatures import readable
from mlepool.client.checks import check_seconds
from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.files import GroupFiles
from mlepool.client.groups.limits import (
    Batch,
    Limits,
    check_flag,
    check_number,
)
from mlepool.client.groups.listener import AsyncGroupListener
from mlepool.client.groups.methods import GroupMethod, offered_by, part_keywords
from mlepool.client.groups.orders import CommandOrder, Order
from mlepool.client.groups.run import RunOptions
from mlepool.client.groups.selection import Groups, choose, choose_by_labels
from mlepool.client.groups.ward import MAX_DIALS, Ward
from mlepool.client.handles import Handle
from mlepool.client.inventory.ranges import fold
from mlepool.client.listening.values import shown
from mlepool.client.sweeps.methods import SweepMethods
from mlepool.errors import ConnectionClosedError

__all__ = ["AsyncGroup", "GroupVerbs", "described", "in_parallel", "print_from"]

logger = logging.getLogger("mlepool.client")


def print_from(name: str, message: Any) -> None:
    """Print a message with its host in front, where it came from."""
    file = sys.stderr if getattr(message, "stream", "") == "stderr" else sys.stdout
    file.write(f"{name}: {shown(message)}\n")
    file.flush()


class GroupVerbs(GroupFiles, SweepMethods, Handle):
    """What a group of connections can be asked for; of groups and of pools."""

    _ward: Ward
    _groups: Groups

    def _members(self) -> list[AsyncConnection]:
        raise NotImplementedError

    def _called(self) -> list[AsyncConnection]:
        """Give those that a call is for."""
        return self._members()

    # -- who is in it

    @property
    def names(self) -> list[str]:
        """The names of the connections, in the pool's order."""
        return [one.name for one in self]

    def __len__(self) -> int:
        return len(self._members())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[AsyncConnection]:
        return iter(self._members())

    def __contains__(self, name: object) -> bool:
        return any(name in {one.name, one} for one in self._members())

    def __getitem__(self, key: str) -> Any:
        """Give a connection by its name, or a group by a set of names.

        A set has names, ranges, wildcards and ``@groups``: ``gpu[1-8],!gpu3``,
        ``@train``, ``gpu*``.

        Raises:
            KeyError: If a name is not there; says what is near.
            ConfigError: If it can't be read: shows where.
        """
        found = choose(key, self._members(), self._groups)
        if isinstance(found, AsyncConnection):
            return found
        return AsyncGroup(found, ward=self._ward, groups=self._groups)

    def group(self, *names: str) -> AsyncGroup:
        """Make a group of some members; each name may be a set, too.

        Raises:
            KeyError, ConfigError: As ``group[name]``.
        """
        wanted = set()
        for one in names:
            found = choose(one, self._members(), self._groups)
            wanted |= {found} if isinstance(found, AsyncConnection) else set(found)
        members = [one for one in self._members() if one in wanted]
        return AsyncGroup(members, ward=self._ward, groups=self._groups)

    def select(self, selector: str) -> AsyncGroup:
        """Make a group of the members whose labels and facts fit.

        Labels are those of the connection, and of the worker; facts are its
        :attr:`~AsyncConnection.state`, known once it was connected.

        Args:
            selector: As in Kubernetes: ``gpu=a100,zone in (a,b),!broken``.

        Raises:
            ConfigError: If it can't be read: shows where.
        """
        members = choose_by_labels(selector, self._members())
        return AsyncGroup(members, ward=self._ward, groups=self._groups)

    # -- calls

    async def connect(self, *, max_parallel: int | None = None) -> None:
        """Connect all that are not connected, side by side.

        Args:
            max_parallel: How many at once; 100 by default.

        Raises:
            ExceptionGroup: Of every ConnectError; the others are connected.
            TypeError, ValueError: If ``max_parallel`` is no number from 1 on.
        """
        if max_parallel is not None:
            check_number("max_parallel", max_parallel, least=1)
        gate = asyncio.Semaphore(max_parallel or MAX_DIALS)

        async def connect(connection: AsyncConnection) -> None:
            async with gate:
                await connection.connect()

        await in_parallel(connect(one) for one in self._members() if not one.is_closed)

    @readable
    async def run(
        self,
        command: str | Sequence[Any],
        *,
        max_parallel: int | None = None,
        batch: Batch | None = None,
        fail_fast: bool = False,
        max_failures: int | str | None = None,
        retries: int = 0,
        retry_lost: bool = False,
        connect_timeout: float | None = None,
        **keywords: Any,
    ) -> AsyncGroupListener:
        """Run a command on all hosts, side by side.

        Hosts without a link are connected first; one that can't be is a result like
        any other. So are failures: :meth:`AsyncGroupListener.check` raises them, or
        ``raise_error=True`` at the end. What runs is never stopped for the failures of
        others.

        Args:
            command: A ``str`` for the shell; a list is a program and its arguments.
            max_parallel: Hosts that run at once; by default all.
            batch: Waves: ``5``, ``"20%"`` or ``[1, 5, "20%"]``, the last again and
                again. One begins once the one before has ended; without
                ``max_failures`` not if all hosts of that one have failed.
            fail_fast: The same as ``max_failures=0``.
            max_failures: Hosts that may fail, or a part of all (``"10%"``); with one
                more no other begins.
            retries: How often a host is tried again that could not be reached, or
                where the command failed: as a new job, after a growing pause.
            retry_lost: Try again also where it is not known if it has run.
            connect_timeout: Seconds that a host may take to be connected; 30 by
                default. To be back after a lost link: no longer than ``timeout``, and
                three seconds more.
            keywords: Those of ``run`` of a connection. In ``collect_to`` each host gets
                a folder of its name; or it is a path with ``{host}`` for the name.

        Returns:
            The finished handle; with ``complete=False`` the live one, at once.

        Raises:
            TypeError, ValueError: If an argument has the wrong type, or can't be.
            ExceptionGroup: With ``raise_error``, of what has failed.
        """
        return await self.call_named(
            *("run", command),
            max_parallel=max_parallel,
            batch=batch,
            fail_fast=fail_fast,
            max_failures=max_failures,
            retries=retries,
            retry_lost=retry_lost,
            connect_timeout=connect_timeout,
            **keywords,
        )

    async def call_named(
        self, name: str, /, *args: Any, **keywords: Any
    ) -> AsyncGroupListener:
        """Call a command on all hosts by its name; keywords as for :meth:`run`.

        Raises:
            AttributeError: If no worker has such a command.
            TypeError, ValueError: If the arguments do not fit.
        """
        return await self.follow_call(self.begin_call(name, args, keywords))

    def begin_call(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> AsyncGroupListener:
        """Begin a call, and wait for nothing; see :meth:`call_named`."""
        own, rest = part_keywords(keywords)
        members = self._called()
        order = CommandOrder(name, args, rest, count=len(members))
        order.check(members)
        return self._start(order, own)

    async def follow_call(
        self,
        live: AsyncGroupListener,
        *,
        echo: Callable[[str, Any], None] = print_from,
    ) -> AsyncGroupListener:
        """Wait for what the caller of a call that was begun waits for."""
        options = live.options
        if not options.complete:
            return live
        try:
            if options.echo_response:
                async for name, message in live:
                    echo(name, message)
            await live.wait()
        except asyncio.CancelledError:
            live.abandon("who called it waits no more")
            raise
        return await live.check() if options.raise_error else live

    def _start(self, order: Order, own: dict[str, Any]) -> AsyncGroupListener:
        retry_lost = own.pop("retry_lost", False)
        connect_timeout = own.pop("connect_timeout", None)
        check_flag("retry_lost", retry_lost)
        check_seconds("connect_timeout", connect_timeout)
        options = RunOptions(Limits.parse(**own), connect_timeout, retry_lost)
        members = self._called()
        if not members and self._members():
            raise ConnectionClosedError("each host of the pool", "closed")
        if not members:  # all went well, on nobody
            logger.warning("%s: there is no host to do it", order.verb)
        return self._ward.begin(members, order, options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return GroupMethod(name, self._members(), self.call_named)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *offered_by(self._members())})


class AsyncGroup(GroupVerbs):
    """Some connections of a pool, in its order: ``pool["gpu[1-8]"]``.

    Each command is a method, called on all of them side by side. It keeps its members
    whatever becomes of the pool; those that are closed can't be reached.
    """

    def __init__(
        self, members: Iterable[AsyncConnection], *, ward: Ward, groups: Groups
    ) -> None:
        self._kept = list(members)
        self._ward = ward
        self._groups = groups

    def _members(self) -> list[AsyncConnection]:
        return list(self._kept)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {described(self)}>"


def described(group: Iterable[AsyncConnection]) -> str:
    """Say who is in a group: the names, folded."""
    names = [one.name for one in group]
    return f"{fold(names)} ({len(names)})" if names else "of no host"


async def in_parallel(awaitables: Iterable[Any]) -> None:
    """Wait for all, and raise what failed.

    Raises:
        BaseExceptionGroup: Of what was raised.
    """
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    errors = [one for one in results if isinstance(one, BaseException)]
    if errors:
        text = f"{len(errors)} of {len(results)} connections failed"
        raise BaseExceptionGroup(text, errors)
