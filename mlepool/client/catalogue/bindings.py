"""Bindings: what a connection can be asked for, as its methods."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from mlepool.client.beginnings import Beginnings
from mlepool.client.catalogue.builtin_commands import BuiltinCommands
from mlepool.client.catalogue.commands import BoundCommand, Catalogue
from mlepool.client.catalogue.known import KNOWN
from mlepool.client.catalogue.namespaces import Offered, Unbound, offered
from mlepool.client.catalogue.signatures import own_signature
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.tables import Table

__all__ = ["OWN_VERBS", "Bindings"]

# What runs here, and is listed with the worker's commands.
OWN_VERBS = ("sync", "put", "get", "transfer")

# Characters of a signature in the table of commands; help() has all of it.
SIGNATURE_WIDTH = 60


class Bindings(BuiltinCommands[Coroutine[Any, Any, AsyncListener]], Beginnings):
    """What a connection can be asked for: the worker's commands, and our own verbs.

    Attributes:
        name: How the pool calls the connection.
    """

    name: str
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
