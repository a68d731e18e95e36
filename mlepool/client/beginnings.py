"""Beginnings: the ways in which a call of a connection begins, and who owns its job."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine
from typing import Any

from mlepool.client.calls import Calls
from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.files.methods import FileMethods
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.owned import Echo, Work
from mlepool.client.printing import print_message

__all__ = ["Beginnings", "takes_files"]

# Files take libraries that a program which only runs commands need not load.
_ERRANDS = "mlepool.client.files.errands"
_WITH_FILES = frozenset({"sync", "collect", "collect_to"})


class Beginnings(FileMethods):
    """How calls of a connection begin: waited for or not, new or planned before."""

    def find(self, name: str) -> BoundCommand:
        """Find a command of the worker."""
        raise NotImplementedError

    def call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str | None = None,
        echo: Echo = print_message,
    ) -> Coroutine[Any, Any, AsyncListener]:
        """Call a command; what its bound method does.

        While it is reconnecting the call waits for the link, within its ``timeout``;
        cancelled before it was sent, it is never run.

        Args:
            command: One of :meth:`find`.
            args: Positional arguments.
            keywords: The others.
            job_id: The id to use; a new one by default. The same id is the same job.
            echo: What prints a message, for ``echo_response``.

        Raises:
            TypeError: For arguments that don't fit the command.
            LookupError: If the worker does not have it any more.
            ConnectionClosedError: If there is no link, and none will come.
        """
        command = self._present(command)
        keywords = self._with_default(keywords)
        if takes_files(command, keywords):
            return self._with_files(
                command, args=args, keywords=keywords, job_id=job_id, echo=echo
            )
        return self._calls.call(command, args, keywords, job_id=job_id, echo=echo)

    def start_call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str,
    ) -> AsyncListener:
        """Call a command that takes no files, and wait for nothing.

        Raises:
            TypeError, LookupError, ConnectionClosedError: As :meth:`call`.
        """
        command, keywords = self._present(command), self._with_default(keywords)
        listener = self._calls.start(command, args, keywords, job_id=job_id)
        if listener.options.input is not None:
            listener.feed_from(listener.options.input)
        return listener

    def give_up_call(self, listener: AsyncListener) -> None:
        """Note that nobody waits for a command any more: it must not begin now."""
        self._calls.give_up(listener)

    def begin_call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        listener: AsyncListener,
        sync: Callable[..., Coroutine[Any, Any, AsyncListener]] | None = None,
    ) -> Coroutine[Any, Any, AsyncListener] | None:
        """Call a command on one of several hosts, and wait for nothing.

        What it collects gets a folder of this host's name.

        Args:
            command: One of :meth:`find`.
            args: Positional arguments.
            keywords: The others.
            listener: Its handle, which was made before.
            sync: What syncs before a run, if not :meth:`sync`.

        Returns:
            What has to be run until it has begun, where files go before it; else None.

        Raises:
            TypeError, LookupError, ConnectionClosedError: As :meth:`call`.
        """
        keywords = self._with_default(keywords)
        if takes_files(command, keywords):
            return self._with_files(
                command,
                sync=sync,
                args=args,
                keywords={**keywords, "complete": False},
                job_id=listener.id,
                echo=print_message,
                listener=listener,
                is_one_of_many=True,
            )
        self._calls.start(command, args, keywords, listener=listener)
        if listener.options.input is not None:
            listener.feed_from(listener.options.input)
        return None

    def begin_here(self, work: Callable[[Calls], Work]) -> None:
        """Begin what runs here, over this connection, and wait for nothing."""
        self._calls.own(work(self._calls))

    def begin_planned(
        self,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str,
        limit: float | None = None,
        age: float = 0.0,
        listener: AsyncListener | None = None,
    ) -> AsyncListener:
        """Run what was planned under an id, or join it; waits for nothing.

        Args:
            args: Positional arguments of ``run``.
            keywords: The others; ``collect_to`` is done here, ``sync`` is not.
            job_id: The job's id.
            limit: Seconds that it may take, by the worker's clock.
            age: Seconds since it may have been asked for before; 0 if it never was.
            listener: Its handle, if that was made before, with the id.

        Raises:
            TypeError, LookupError, ConnectionClosedError: As :meth:`call`.
        """
        keywords = dict(keywords)
        to = keywords.pop("collect_to", None)
        place, what = keywords.get("cwd"), keywords.get("collect")
        found = self._calls.start(
            *(self.find("run"), args, keywords),
            job_id=job_id,
            limit=limit,
            age=age,
            listener=listener,
        )
        if what:
            errands = importlib.import_module(_ERRANDS)
            errands.bring_back(self._calls, found, place, to=to, what=what)
        return found

    async def attach(
        self, job_id: str, *, offset: int = 0, **keywords: Any
    ) -> AsyncListener:
        """Read a job's output, from its beginning or a position, then follow it.

        Any job of the worker, whoever started it. It is not owned by this connection.

        Args:
            job_id: The job.
            offset: Where to begin: the ``position`` of another listener of the job,
                which has received all that is before it.
            keywords: ``encoding``, ``errors``, ``max_interval``, ``raise_error``;
                ``collect_to``, a folder here: what it was run to ``collect`` is
                brought there before the listener comes to its end.

        Raises:
            LookupError: If there is no such job.
            ValueError: If the offset is not the position of a record of its output,
                or there is nothing to collect.
            ConnectError: If it was never connected, and can't be: as :meth:`connect`.
        """
        await self._open()
        keywords = self._with_default(keywords)
        if keywords.get("collect_to") is None:
            return await self._calls.attach(job_id, offset, keywords)
        errands = importlib.import_module(_ERRANDS)
        found = errands.attach_and_collect(
            self._calls, job_id, offset=offset, keywords=keywords
        )
        return await found  # type: ignore[no-any-return]

    async def run_here(self, begin: Callable[[Calls], Work]) -> AsyncListener:
        """Begin what runs here, over this connection, and wait as a call does."""
        return await self._calls.work(begin(self._calls))

    def owned(self) -> list[str]:
        """Give the ids of the jobs that :meth:`close` would stop."""
        return self._calls.owned()

    def release(self, job_id: str) -> bool:
        """Own a job no more: ``close()`` leaves it running.

        Returns:
            False if the worker can't have heard of it yet.
        """
        return self._calls.release(job_id)

    def was_sent(self, job_id: str) -> bool:
        """Tell if the worker may have heard of a job."""
        return self._calls.was_sent(job_id)

    def _with_default(self, keywords: dict[str, Any]) -> dict[str, Any]:
        """Add our own default; best nothing, since that need not be read."""
        if not self.raise_error:
            return keywords
        return {"raise_error": self.raise_error, **keywords}

    def _present(self, command: BoundCommand) -> BoundCommand:
        """Give what a command is by now: it may have changed since it was found."""
        raise NotImplementedError

    def _with_files(
        self,
        command: BoundCommand,
        *,
        sync: Callable[..., Coroutine[Any, Any, AsyncListener]] | None = None,
        **rest: Any,
    ) -> Coroutine[Any, Any, AsyncListener]:
        errands = importlib.import_module(_ERRANDS)
        return errands.run_with_files(  # type: ignore[no-any-return]
            self._calls, sync or self.sync, command, **rest
        )


def takes_files(command: BoundCommand, keywords: dict[str, Any]) -> bool:
    """Tell if files go before or after a call of a command."""
    return command.spec.spawns and not _WITH_FILES.isdisjoint(keywords)
