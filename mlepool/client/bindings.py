"""Bindings: what a connection can be asked for, as its methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from mlepool.client.calls import Calls, Echo, print_message
from mlepool.client.commands import BoundCommand, Catalogue
from mlepool.client.listener import AsyncListener
from mlepool.client.tables import Table

__all__ = ["Bindings"]


class Bindings:
    """What a connection can be asked for: the worker's commands, and our own verbs.

    Attributes:
        name: How the pool calls the connection.
        raise_error: Default of the keyword for all calls.
    """

    name: str
    raise_error: bool
    _calls: Calls
    _catalogue: Catalogue | None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[AsyncListener]]:
        if name.startswith("_"):
            raise AttributeError(name)
        command = self.find(name)

        async def call(*args: Any, **keywords: Any) -> AsyncListener:
            return await self.call(command, args, keywords)

        return self.bind(command, call)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.server_methods()})

    @property
    def commands(self) -> Table:
        """The worker's commands: name, signature and summary."""
        rows = [
            (one.spec.name, str(one.signature), one.spec.doc.partition("\n")[0])
            for one in self._catalogue or ()
        ]
        return Table(("name", "signature", "summary"), rows)

    def server_methods(self) -> list[str]:
        """Give the names of the worker's commands; empty before the first connect."""
        return self._catalogue.names() if self._catalogue is not None else []

    def find(self, name: str) -> BoundCommand:
        """Find a command of the worker.

        Raises:
            AttributeError: If it has none of this name, or was never connected.
        """
        if self._catalogue is None:
            raise AttributeError(
                f"{name!r} is not known: {self.name} was not connected yet", name=name
            )
        return self._catalogue.find(name)

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
            ConnectionClosedError: If there is no link, and none will come.
        """
        keywords = {"raise_error": self.raise_error, **keywords}
        return self._calls.call(command, args, keywords, job_id=job_id, echo=echo)

    async def attach(
        self, job_id: str, *, offset: int = 0, **keywords: Any
    ) -> AsyncListener:
        """Read a job's output, from its beginning or a position, then follow it.

        Any job of the worker, whoever started it. It is not owned by this connection.

        Args:
            job_id: The job.
            offset: Where to begin: the ``position`` of another listener of the job,
                which has received all that is before it.
            keywords: ``encoding``, ``errors``, ``max_interval``, ``raise_error``.

        Raises:
            LookupError: If there is no such job.
            ValueError: If the offset is not the position of a record of its output.
        """
        keywords = {"raise_error": self.raise_error, **keywords}
        return await self._calls.attach(job_id, offset, keywords)

    def owned(self) -> list[str]:
        """Give the ids of the jobs that :meth:`close` would stop."""
        return self._calls.owned()

    def release(self, job_id: str) -> bool:
        """Own a job no more: ``close()`` leaves it running.

        Returns:
            False if the worker can't have heard of it yet.
        """
        return self._calls.release(job_id)

    def bind(
        self, command: BoundCommand, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Give a function a command's name, signature and docs."""
        function.__name__ = command.spec.name
        function.__qualname__ = f"{self.name}.{command.spec.name}"
        function.__doc__ = command.spec.doc
        function.__signature__ = command.signature  # type: ignore[attr-defined]
        return function

    if TYPE_CHECKING:
        # The built-in commands, for editors and type checkers; bound at connect.

        async def run(
            self, command: str | Sequence[str | bytes], **keywords: Any
        ) -> AsyncListener:
            """Run a command on the worker's host."""

        async def stop(self, job_id: str, **keywords: Any) -> AsyncListener:
            """Stop a job."""

        async def jobs(self, **keywords: Any) -> AsyncListener:
            """List jobs."""

        async def get_time(self, **keywords: Any) -> AsyncListener:
            """Give the host's time."""
