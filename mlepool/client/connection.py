"""AsyncConnection: one worker; what it offers are this connection's methods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlepool.client.commands import BoundCommand, Catalogue
from mlepool.client.handshake import Entrance, dial
from mlepool.client.listener import AsyncListener
from mlepool.client.options import CallOptions, split_options
from mlepool.client.tables import Table
from mlepool.client.trust import Target
from mlepool.errors import (
    ConnectError,
    ConnectionClosedError,
    ConnectionLostError,
    ConnectTimeoutError,
    RemoteProtocolError,
)
from mlepool.peer import Peer
from mlepool.wire.calls import CallTable
from mlepool.wire.codec import Data
from mlepool.wire.messages import (
    Accepted,
    Attach,
    Credit,
    Ended,
    Event,
    Leave,
    Message,
    Ping,
    Pong,
    Request,
)
from mlepool.wire.values import InputAck, StopReport

__all__ = ["AsyncConnection", "Echo", "new_job_id"]

logger = logging.getLogger("mlepool.client")

CONNECT_LIMIT = 30.0  # seconds for one attempt where the caller set no limit
CLOSE_GRACE = 2.0  # seconds between the signals to jobs that end with close()
CLOSE_LIMIT = 15.0  # seconds that close() may take in all

EVENTS = frozenset({"connected", "disconnected", "lost"})

Echo = Callable[[Any], None]


def new_job_id() -> str:
    """Make a command's id: 64 random bits, made before anything is sent."""
    return secrets.token_hex(8)


def print_message(message: Any) -> None:
    """Print a message where it came from: stdout or stderr."""
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
    file = sys.stderr if getattr(message, "stream", "") == "stderr" else sys.stdout
    file.write(f"{text}{getattr(message, 'end', chr(10))}")
    file.flush()


class AsyncConnection:
    """A connection to one worker.

    The worker's commands are methods, with the worker's own signatures and docs, and
    these keywords: ``complete`` (wait for the end), ``timeout``, ``echo_response``,
    ``max_interval``, ``raise_error``. Each call gives an :class:`AsyncListener`.

    ``close()`` stops the jobs that were started through this connection, unless they
    were started with ``detach=True``. A lost link stops nothing.

    Attributes:
        name: How the pool calls it.
        labels: Free-form labels.
        raise_error: Default of the keyword for all calls.
    """

    def __init__(
        self,
        target: Target,
        *,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        enter_connect: bool = True,
        enter_connect_timeout: float | None = None,
        raise_error: bool = False,
        proxy: str | None = None,
    ) -> None:
        self.name = name or target.name
        self.labels = dict(labels or {})
        self.raise_error = raise_error
        self._target = target
        self._enter_connect = enter_connect
        self._enter_connect_timeout = enter_connect_timeout
        self._proxy = proxy
        self._state = "new"
        self._connecting = asyncio.Lock()
        self._worker_state: dict[str, Any] = {}
        self._peer: Peer | None = None
        self._catalogue: Catalogue | None = None
        self._calls: CallTable[AsyncListener] = CallTable()
        self._numbers: dict[AsyncListener, int] = {}
        self._owned: dict[str, str] = {}
        self._callbacks: dict[str, list[Callable[..., object]]] = {}
        self._pongs: list[asyncio.Future[None]] = []

    # -- life

    async def connect(self) -> None:
        """Connect to the worker and bind its commands; nothing if it is connected.

        Raises:
            ConnectError: If it can't be reached (within 30 s), or one of these:
            AuthenticationError: If the worker refuses us.
            UntrustedWorkerError: If it is not the trusted worker.
            VersionError: If there is no common protocol version.
            ConnectionClosedError: If this connection was closed for good.
        """
        await self.connect_within(None)

    async def connect_within(self, limit: float | None) -> None:
        """Connect as :meth:`connect`, within a limit in seconds (30 by default)."""
        if self._state == "closed":
            raise ConnectionClosedError(self.name, self._state)
        seconds = CONNECT_LIMIT if limit is None else limit
        try:
            async with asyncio.timeout(seconds), self._connecting:
                if self._peer is None:
                    await self._enter()
        except TimeoutError as exc:
            if isinstance(exc, ConnectError):
                raise
            raise self._timeout_error(seconds) from None

    async def disconnect(self) -> None:
        """Leave the worker; jobs go on. :meth:`connect` comes back. Twice is fine."""
        peer = self._peer
        if peer is not None:
            self._state = "disconnected"
            peer.close("closed", "this side has disconnected")
            await peer.wait_closed()

    async def close(self) -> None:
        """Stop the jobs that this connection owns and leave for good. Twice is fine."""
        if self._state == "closed":
            return
        if self._peer is not None and self._owned:
            await self._stop_owned()
        await self.disconnect()
        self._state = "closed"

    async def __aenter__(self) -> Self:
        if self._enter_connect:
            await self.connect_within(self._enter_connect_timeout)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """True while there is a link to the worker."""
        return self._peer is not None

    @property
    def is_closed(self) -> bool:
        """True once closed for good."""
        return self._state == "closed"

    async def heartbeat(self) -> bool:
        """Ask the worker for a sign of life; False if there is no link to it."""
        if self._peer is None:
            return False
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._peer.send(Ping())
        try:
            await pong
        except ConnectionLostError:
            return False
        finally:
            if pong in self._pongs:
                self._pongs.remove(pong)
        return True

    @property
    def state(self) -> dict[str, Any]:
        """What the worker tells of itself: id, name, version, os, ...

        With ``connection``: new, connected, disconnected, lost or closed.
        """
        return {**self._worker_state, "connection": self._state}

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called on an event.

        Args:
            event: ``"connected"``, ``"disconnected"``, ``"lost"``, or a worker's own.
            callback: Called with this connection, and with the event's data for a
                worker's own event. What it raises is logged.
        """
        self._callbacks.setdefault(event, []).append(callback)

    # -- commands

    def __getattr__(self, name: str) -> Callable[..., Awaitable[AsyncListener]]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.bind(self.find(name), self._caller(self.find(name)))

    def __dir__(self) -> list[str]:
        names = self._catalogue.names() if self._catalogue is not None else []
        return sorted({*super().__dir__(), *names})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._state}>"

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

    async def call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str | None = None,
        echo: Echo = print_message,
    ) -> AsyncListener:
        """Call a command; what its bound method does.

        Args:
            command: One of :meth:`find`.
            args: Positional arguments.
            keywords: The others.
            job_id: The id to use; a new one by default. The same id is the same job.
            echo: What prints a message, for ``echo_response``.
        """
        listener = self.start(command, args, keywords, job_id=job_id)
        if listener.options.input is not None:
            with contextlib.suppress(BrokenPipeError):  # as subprocess.run() does
                await listener.send_input(listener.options.input)
                await listener.close_input()
        if not listener.options.complete:
            await listener.accepted()
            return listener
        if listener.options.echo_response:
            async for message in listener:
                echo(message)
        return await listener.wait()

    def start(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str | None = None,
    ) -> AsyncListener:
        """Send a command's request; nothing is waited for.

        Raises:
            TypeError: For arguments that don't fit the command.
            ConnectionClosedError: If there is no link.
        """
        keywords = {"raise_error": self.raise_error, **keywords}
        options, arguments = command.bind(args, keywords)
        if options.input is not None:
            arguments["stdin"] = True
        peer = self._open_peer()
        name = command.spec.name
        text = arguments.get("command", name) if command.spec.spawns else name
        job_id = job_id or new_job_id()
        listener = AsyncListener(job_id, _display(text), options, owner=self)
        listener.returns = command.spec.returns
        number = self._calls.next_number()
        limit = options.timeout if options.on_timeout == "stop" else None
        window = listener.intake.window
        awaited = not options.complete
        request = Request(number, job_id, name, arguments, window, limit, awaited)
        try:
            peer.send(request)
        except BaseException:
            listener.close()
            raise
        self._enter_call(number, listener)
        if command.spec.spawns and not options.detach:
            self._owned[job_id] = name
        return listener

    async def attach(self, job_id: str, **keywords: Any) -> AsyncListener:
        """Read a job from the beginning of its output, then follow it.

        Any job of the worker, whoever started it. It is not owned by this connection.

        Args:
            job_id: The job.
            keywords: ``encoding``, ``errors``, ``max_interval``, ``raise_error``.

        Raises:
            LookupError: If there is no such job.
        """
        options, rest = split_options(
            {"raise_error": self.raise_error, **keywords}, spawns=True
        )
        if rest:
            raise TypeError(f"attach() has no keyword {next(iter(rest))!r}")
        listener = self._attach(job_id, job_id, options)
        await listener.accepted()
        if not listener.intake.is_accepted and listener.error is not None:
            raise listener.error
        return listener

    def owned(self) -> list[str]:
        """Give the ids of the jobs that :meth:`close` would stop."""
        return list(self._owned)

    def release(self, job_id: str) -> None:
        """Own a job no more: ``close()`` leaves it running."""
        self._owned.pop(job_id, None)

    # -- what listeners need (Owner)

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Stop a job."""
        keywords = {"signal": signal, "grace": grace, "raise_error": True}
        listener = await self.call(self.find("stop"), (job_id,), keywords)
        assert isinstance(listener.value, StopReport)
        return listener.value

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool
    ) -> int:
        """Write to a job's stdin."""
        keywords = {"data": data, "offset": offset, "end": end, "raise_error": True}
        listener = await self.call(self.find("send_input"), (job_id,), keywords)
        assert isinstance(listener.value, InputAck)
        return listener.value.offset

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Tell the worker how far it may send."""
        number = self._numbers.get(listener)
        if number is not None and self._peer is not None:
            self._peer.send(Credit(number, position))

    def leave(self, listener: AsyncListener) -> None:
        """Receive no more for a listener."""
        number = self._numbers.pop(listener, None)
        if number is not None:
            self._calls.close(number)
            if self._peer is not None:
                self._peer.send(Leave(number))

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Read a job's output again from its beginning."""
        again = self._attach(listener.id, listener.command, listener.options)
        again.max_interval = None
        return again

    # -- what the peer hands over (Handler)

    def message_received(self, message: Message | Data) -> None:
        """Act on what the worker sends."""
        if isinstance(message, Pong):
            self._settle_pongs(None)
        elif isinstance(message, Event):
            self._emit(message.name, message.data)
        elif isinstance(message, Data | Accepted | Ended):
            listener = self._calls.get(message.call)
            if listener is not None:
                self._deliver(listener, message)
        else:
            raise RemoteProtocolError(f"{type(message).__name__} came a second time")

    def writable(self) -> None:
        """Nothing to do: what a client sends is small."""

    def peer_gone(self, cause: str, code: str) -> None:
        """Tell everybody who waits that the link is gone; jobs go on."""
        self._peer = None
        for listener in self._calls:
            listener.intake.fail(ConnectionLostError(self.name, cause))
            listener.ended()
        self._calls = CallTable()
        self._numbers.clear()
        self._settle_pongs(ConnectionLostError(self.name, cause))
        if self._state == "connected":
            self._state = "lost"
            logger.warning("lost the connection to %s: %s", self.name, cause)
        self._emit(self._state)

    # -- within

    def bind(
        self, command: BoundCommand, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Give a function a command's name, signature and docs."""
        function.__name__ = command.spec.name
        function.__qualname__ = f"{self.name}.{command.spec.name}"
        function.__doc__ = command.spec.doc
        function.__signature__ = command.signature  # type: ignore[attr-defined]
        return function

    def _timeout_error(self, seconds: float) -> ConnectTimeoutError:
        """Make the error for a connect that took too long."""
        target = self._target
        cause = f"no answer within {seconds:g} s"
        return ConnectTimeoutError(target.host or target.name, target.port, cause)

    def _caller(self, command: BoundCommand) -> Callable[..., Any]:
        async def call(*args: Any, **keywords: Any) -> AsyncListener:
            return await self.call(command, args, keywords)

        return call

    async def _enter(self) -> None:
        link = await dial(self._target, proxy=self._proxy)
        entrance = Entrance(self._target, link, handler=self)
        welcome = await entrance.enter()
        try:
            self._catalogue = Catalogue(self.name, welcome.commands)
        except RemoteProtocolError as exc:
            entrance.peer.close("protocol", str(exc))
            host = self._target.host or self._target.name
            raise ConnectError(host, self._target.port, str(exc)) from exc
        self._worker_state = welcome.state
        self._peer = entrance.peer
        self._state = "connected"
        self._emit("connected")

    def _open_peer(self) -> Peer:
        if self._peer is None:
            raise ConnectionClosedError(self.name, self._state)
        return self._peer

    def _enter_call(self, number: int, listener: AsyncListener) -> None:
        self._calls.open(number, listener)
        self._numbers[listener] = number

    def _attach(self, job_id: str, command: str, options: CallOptions) -> AsyncListener:
        peer = self._open_peer()
        listener = AsyncListener(job_id, command, options, owner=self)
        number = self._calls.next_number()
        peer.send(Attach(number, job_id, 0, listener.intake.window))
        self._enter_call(number, listener)
        return listener

    def _deliver(
        self, listener: AsyncListener, message: Data | Accepted | Ended
    ) -> None:
        if isinstance(message, Data):
            listener.intake.data(message)
        elif isinstance(message, Accepted):
            listener.command = message.command or listener.command
            listener.intake.accepted()
        else:
            # First the end: if it is a false one, the listener must still be known
            # to be told that the link was closed over it.
            listener.intake.ended(message.outcome)
            self._calls.close(message.call)
            self._numbers.pop(listener, None)
            self._owned.pop(listener.id, None)
            listener.ended()

    async def _stop_owned(self) -> None:
        stops = [
            self.stop_job(job_id, "SIGINT", grace=CLOSE_GRACE) for job_id in self._owned
        ]
        self._owned.clear()
        tasks = [asyncio.ensure_future(stop) for stop in stops]
        done, late = await asyncio.wait(tasks, timeout=CLOSE_LIMIT)
        for task in late:
            task.cancel()
        failed = [task for task in done if task.exception() is not None]
        if failed or late:
            count = len(failed) + len(late)
            logger.warning("%s: %d jobs could not be stopped", self.name, count)

    def _settle_pongs(self, error: ConnectionLostError | None) -> None:
        for pong in self._pongs:
            if not pong.done():
                if error is None:
                    pong.set_result(None)
                else:
                    pong.set_exception(error)

    def _emit(self, event: str, *data: Any) -> None:
        for callback in self._callbacks.get(event, ()):
            try:
                callback(self, *data)
            except Exception:
                # Somebody else's code: it must not break the connection.
                logger.exception("a callback for %r failed", event)

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


def _display(command: Any) -> str:
    if not isinstance(command, list | tuple):
        return str(command)
    return shlex.join(
        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
        for one in command
    )
