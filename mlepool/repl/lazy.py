"""LazyConnection: a connection that opens when it is first used, as at a prompt."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.catalogue.namespaces import Offered
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sync import Connection, Listener
from mlepool.client.tables import Table
from mlepool.wire.telemetry import Sample

__all__ = ["LazyConnection"]


class LazyConnection(Connection):
    """A connection that connects when it is used, if it is not connected.

    Looking at it (its ``repr``, ``dir()``, ``state``) does not connect. Once closed it
    stays so.
    """

    @property
    def commands(self) -> Table:
        """The worker's commands: name, signature, role and summary."""
        self.open()
        return super().commands

    def open(self) -> None:
        """Connect unless there is a link, or one is coming by itself.

        Raises:
            ConnectError: As ``connect()``.
        """
        if self.state["connection"] in {"new", "disconnected", "lost"}:
            self.connect()

    def call_named(self, name: str, /, *args: Any, **keywords: Any) -> Listener:
        """Call a command by its name, as its method does."""
        self.open()
        return super().call_named(name, *args, **keywords)

    def attach(self, job_id: str, *, offset: int = 0, **keywords: Any) -> Listener:
        """Read a job's output from its beginning; see :class:`~mlepool.Connection`."""
        self.open()
        return super().attach(job_id, offset=offset, **keywords)

    def metrics(self, timeout: float | None = None) -> Sample:
        """Give the worker's newest measurements; see :class:`~mlepool.Connection`."""
        self.open()
        return super().metrics(timeout)

    def _listen(
        self,
        verb: Callable[..., Coroutine[Any, Any, AsyncListener]],
        *args: Any,
        **keywords: Any,
    ) -> Listener:
        self.open()
        return super()._listen(verb, *args, **keywords)

    def _call(
        self, command: BoundCommand, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Listener:
        self.open()  # a method that was kept is called after disconnect()
        return super()._call(command, args, keywords)

    def __getattr__(self, name: str) -> Offered[Listener]:
        if not name.startswith("_"):
            self.open()
        return super().__getattr__(name)
