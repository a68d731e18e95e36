"""Bindings: what a connection can be asked for, as its methods."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from mlepool.client.calls import Calls
from mlepool.client.catalogue.builtin_commands import BuiltinCommands
from mlepool.client.catalogue.commands import BoundCommand, Catalogue
from mlepool.client.catalogue.known import KNOWN
from mlepool.client.catalogue.namespaces import Offered, Unbound, offered
from mlepool.client.catalogue.signatures import own_signature
from mlepool.client.files.methods import FileMethods
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.owned import Echo, Work
from mlepool.client.printing import print_message
from mlepool.client.tables import Table

__all__ = ["OWN_VERBS", "Bindings"]

# What runs here, and is listed with the worker's commands.
OWN_VERBS = ("sync", "put", "get", "transfer")

# Characters of a signature in the table of commands; help() has all of it.
SIGNATURE_WIDTH = 60

# Files take libraries that a program which only runs commands need not load.
_ERRANDS = "mlepool.client.files.errands"
_WITH_FILES = frozenset({"sync", "collect", "collect_to"})


class Bindings(BuiltinCommands[Coroutine[Any, Any, AsyncListener]], FileMethods):
    """What a connection can be asked for: the worker's commands, and our own verbs.

    Attributes:
        name: How the pool calls the connection.
        raise_error: Default of the keyword for all calls.
    """

    name: str
    raise_error: bool
    _calls: Calls
    _catalogue: Catalogue | None

    def __getattr__(self, name: str) -> Offered[Awaitable[AsyncListener]]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.offered(  # type: ignore[no-any-return]
            name, self._method, later=self.call_named, blocks=False
        )

    def __dir__(self) -> list[str]:
        offered = self._catalogue.within("") if self._catalogue is not None else []
        return sorted({*super().__dir__(), *offered})

    @property
    def commands(self) -> Table:
        """The worker's commands: name, signature, role and summary.

        The role is what a client's token must have for it.
        """
        rows = [
            (one.spec.name, str(one.own_signature), one.spec.role, one.summary)
            for one in self._catalogue or ()
            if one.spec.name not in OWN_VERBS
        ]
        if self._catalogue is not None:
            rows += [_row(verb) for verb in OWN_VERBS]
        headers = ("name", "signature", "role", "summary")
        return Table(headers, rows, widths={"signature": SIGNATURE_WIDTH})

    def server_methods(self) -> list[str]:
        """Give the names of all commands; empty before the first connect."""
        if self._catalogue is None:
            return []
        return sorted({*self._catalogue.names(), *OWN_VERBS})

    def find(self, name: str) -> BoundCommand:
        """Find a command of the worker.

        Raises:
            AttributeError: If it has none of this name, or was never connected.
        """
        return self._known(name).find(name)

    def offered(
        self,
        name: str,
        bind: Callable[[BoundCommand], Any],
        *,
        later: Callable[..., Any],
        blocks: bool,
    ) -> Any:
        """Give a method, or a capability's actions, by name.

        Args:
            name: The name.
            bind: Makes the method.
            later: Calls it by its name, if it was never connected.
            blocks: Of which face.

        Raises:
            AttributeError: If it has none of this name.
        """
        known = self._catalogue
        if known is None:
            return Unbound(name, later)
        found = known.offers.get((name, blocks))
        if found is None:
            found = offered(lambda: self._catalogue or known, name, bind)
            known.offers[name, blocks] = found
        return found

    async def connect(self) -> None:
        """Connect to the worker and bind its commands."""
        raise NotImplementedError

    async def call_named(
        self, name: str, /, *args: Any, **keywords: Any
    ) -> AsyncListener:
        """Call a command by its name, as its method does: ``"images.resize"``.

        Raises:
            AttributeError: If there is none of this name.
            ConnectError: If it was never connected, and can't be: as :meth:`connect`.
        """
        await self._open()
        return await self.call(self.find(name), args, keywords)

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
        keywords = {"raise_error": self.raise_error, **keywords}
        if command.spec.spawns and not _WITH_FILES.isdisjoint(keywords):
            errands = importlib.import_module(_ERRANDS)
            return errands.run_with_files(  # type: ignore[no-any-return]
                *(self._calls, self.sync, command),
                args=args,
                keywords=keywords,
                job_id=job_id,
                echo=echo,
            )
        return self._calls.call(command, args, keywords, job_id=job_id, echo=echo)

    def begin_call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        listener: AsyncListener,
        sync: Callable[..., Coroutine[Any, Any, AsyncListener]] | None = None,
    ) -> Coroutine[Any, Any, AsyncListener] | None:
        """Call a command for a listener that was made before, and wait for nothing.

        Args:
            command: One of :meth:`find`.
            args: Positional arguments.
            keywords: The others.
            listener: Its handle.
            sync: What syncs before a run, if not :meth:`sync`.

        Returns:
            What has to be run until it has begun, where files go before it; else None.

        Raises:
            TypeError, LookupError, ConnectionClosedError: As :meth:`call`.
        """
        keywords = {"raise_error": self.raise_error, **keywords}
        if command.spec.spawns and not _WITH_FILES.isdisjoint(keywords):
            errands = importlib.import_module(_ERRANDS)
            return errands.run_with_files(  # type: ignore[no-any-return]
                *(self._calls, sync or self.sync, command),
                args=args,
                keywords={**keywords, "complete": False},
                job_id=listener.id,
                echo=print_message,
                listener=listener,
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
        keywords = {"raise_error": self.raise_error, **keywords}
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

    def bind(
        self, command: BoundCommand, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Give a function a command's name, signature and docs."""
        function.__name__ = command.spec.name.rpartition(".")[2]
        function.__qualname__ = f"{self.name}.{command.spec.name}"
        function.__module__ = "mlepool"
        function.__doc__ = command.doc
        function.__signature__ = command.signature  # type: ignore[attr-defined]
        return function

    def _method(self, command: BoundCommand) -> Callable[..., Any]:
        async def call(*args: Any, **keywords: Any) -> AsyncListener:
            return await self.call(command, args, keywords)

        method = self.bind(command, call)
        method.__signature__ = command.async_signature  # type: ignore[attr-defined]
        return method

    async def _open(self) -> None:
        """Connect, if it never was: what is called is known then."""
        if self._catalogue is None:
            await self.connect()

    def _known(self, name: str) -> Catalogue:
        if self._catalogue is None:
            raise AttributeError(
                f"{name!r} is not known: {self.name} was not connected yet; "
                "call connect() first",
                name=name,
            )
        return self._catalogue

    def _present(self, command: BoundCommand) -> BoundCommand:
        """Give what a command is by now: it may have changed since it was found."""
        name = command.spec.name
        present = self._known(name).get(name)
        if present is None:
            text = f"the worker {self.name} has no command {name!r} any more"
            raise LookupError(text)
        return present

    def _take_catalogue(self, data: Any) -> Table:
        """Offer what a worker says that it has now.

        Raises:
            RemoteProtocolError: If it is no catalogue.
        """
        commands = KNOWN.take(msgspec.msgpack.encode(data))
        self._catalogue = Catalogue(self.name, commands)
        return self.commands


def _row(verb: str) -> tuple[str, str, str, str]:
    function = getattr(Bindings, verb)
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return verb, str(own_signature(function)), "sync", summary
