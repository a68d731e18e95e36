"""Connection: the blocking connection to one worker. Calls through the portal."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from mlepool.client.beginnings import takes_files
from mlepool.client.catalogue.builtin_commands import BuiltinCommands
from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.catalogue.namespaces import Offered
from mlepool.client.catalogue.signatures import like
from mlepool.client.connection import AsyncConnection
from mlepool.client.handles import Handle
from mlepool.client.ids import new_job_id
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import Kind
from mlepool.client.portal import Portal, shorten
from mlepool.client.printing import print_message
from mlepool.client.sync.ends import End
from mlepool.client.sync.file_methods import FileMethods
from mlepool.client.sync.interrupts import leave_alone
from mlepool.client.sync.listener import Listener
from mlepool.client.sync.pages import connection_page
from mlepool.client.tables import Table
from mlepool.wire.telemetry import Sample

__all__ = ["Connection", "with_listener"]

E = TypeVar("E", bound=Exception)


def with_listener(exc: E, portal: Portal) -> E:
    """Have an error carry a Listener of this face."""
    if isinstance(getattr(exc, "listener", None), AsyncListener):
        exc.listener = Listener(exc.listener, portal)  # type: ignore[attr-defined]
    shorten(exc)
    return exc


class Connection(BuiltinCommands[Listener], FileMethods, Handle):
    """A connection to one worker; as :class:`~mlepool.AsyncConnection`, but blocking.

    Usable from any thread, also inside a running event loop (Jupyter).
    """

    def __init__(self, connection: AsyncConnection, portal: Portal) -> None:
        self._async = connection
        self._portal = portal

    @property
    def name(self) -> str:
        """How the pool calls it."""
        return self._async.name

    @property
    def labels(self) -> dict[str, str]:
        """Free-form labels."""
        return self._async.labels

    @property
    def state(self) -> dict[str, Any]:
        """What the worker tells of itself, and how this connection stands."""
        return self._async.state

    @property
    def rtt(self) -> float | None:
        """Seconds that the latest ping waited for its answer; None before the first.

        It is measured a second after each connect, on an idle link every 20 s, and by
        :meth:`heartbeat`. What waits before it on the way, in both directions, counts.
        """
        return self._async.rtt

    @property
    def is_connected(self) -> bool:
        """True while there is a link to the worker."""
        return self._async.is_connected

    @property
    def is_closed(self) -> bool:
        """True once closed for good."""
        return self._async.is_closed

    @property
    def commands(self) -> Table:
        """The worker's commands: name, signature, role and summary.

        The role is what a client's token must have for it.
        """
        return self._async.commands

    def call_named(self, name: str, /, *args: Any, **keywords: Any) -> Listener:
        """Call a command by its name, as its method does: ``"images.resize"``.

        Raises:
            AttributeError: If there is none of this name.
            ConnectError: If it was never connected, and can't be: as :meth:`connect`.
        """
        if not self.server_methods():
            self.connect()
        return self._call(self._async.find(name), args, keywords)

    def server_methods(self) -> list[str]:
        """Give the names of the worker's commands; empty before the first connect."""
        return self._async.server_methods()

    def connect(self, timeout: float | None = None) -> None:
        """Connect to the worker and bind its commands; nothing if it is connected.

        While it is reconnecting by itself, this waits for that.

        Args:
            timeout: Seconds; by default an attempt may take 30.

        Raises:
            ConnectError: If it can't be reached in time, or one of these:
            AuthenticationError: If the worker refuses us.
            UntrustedWorkerError: If it is not the trusted worker.
            VersionError: If there is no common protocol version.
            ConnectionClosedError: If this connection was closed for good.
        """
        self._portal.call(self._async.connect_within(timeout))

    def disconnect(self) -> None:
        """Leave the worker; jobs go on. :meth:`connect` comes back. Twice is fine."""
        self._portal.call(self._async.disconnect())

    def close(self) -> None:
        """Stop the jobs that this connection owns and leave for good. Twice is fine.

        Without a link they can't be stopped: a warning names them, and they go on.
        """
        self._portal.call(self._async.close())

    def heartbeat(self, timeout: float | None = None) -> bool:
        """Ask the worker for a sign of life.

        Args:
            timeout: Seconds to wait for it.

        Returns:
            False if there is no link to it, or no answer in time.
        """
        try:
            return self._portal.call(self._async.heartbeat(), timeout)
        except TimeoutError:
            return False

    def attach(self, job_id: str, *, offset: int = 0, **keywords: Any) -> Listener:
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
            ConnectError: If it was never connected, and can't be: as :meth:`connect`.
        """
        attached = self._async.attach(job_id, offset=offset, **keywords)
        return Listener(self._portal.call(attached), self._portal)

    @like(AsyncConnection.sync)
    def sync(
        self,
        source: str | os.PathLike[str],
        destination: str | os.PathLike[str],
        *,
        pull: bool = False,
        delete: bool = False,
        exclude: str | Iterable[str] = (),
        ignore_files: str | Iterable[str] = (".gitignore", ".mlepoolignore"),
        dry_run: bool = False,
        checksum: bool = False,
        force: bool = False,
        watch: bool = False,
        **keywords: Any,
    ) -> Listener:
        """Make a folder on the worker like one here.

        Ctrl-C while this waits stops it: the tree is as it was.
        """
        return self._listen(
            self._async.sync,
            source,
            destination,
            pull=pull,
            delete=delete,
            exclude=exclude,
            ignore_files=ignore_files,
            dry_run=dry_run,
            checksum=checksum,
            force=force,
            watch=watch,
            **{"complete": not watch, **keywords},
        )

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called on an event, in mlepool's own thread.

        Args:
            event: ``"connected"`` and ``"disconnected"`` (by this side),
                ``"reconnecting"`` (the link was lost), ``"reconnected"``, ``"lost"``
                (given up), or the worker's own ``"state-change"`` (given as
                ``{"state": ..., "changed": ...}``: all of :attr:`state`, and what is
                new in it, None for what is gone) and ``"catalogue"`` (it has other
                commands now; they are given as :attr:`commands`), or ``"metrics"``
                (a :class:`~mlepool.Sample` was taken; those that were kept while
                nobody had them come first, and are let go as the callback returns);
                ``"quarantined"`` (groups leave this host out for now; given as ``why``,
                and ``until`` when) and ``"released"`` (they do no more).
            callback: Called with this connection; on ``"state-change"``,
                ``"catalogue"``, ``"metrics"`` and ``"quarantined"`` also with what is
                given then. It must not block, nor call this face. What it raises is
                logged.

        Raises:
            ValueError: If there is no such event.
        """
        if not callable(callback):
            raise TypeError(f"a callback is a function, not {type(callback).__name__}")
        listen = functools.partial(
            self._async.on, event, lambda _, *data: callback(self, *data)
        )
        if event == "metrics":
            self._portal.do(listen)  # that asks the worker, and so belongs to the loop
        else:
            listen()

    def metrics(self, timeout: float | None = None) -> Sample:
        """Give the worker's newest measurements, of all kinds.

        What is older than its interval (:meth:`set_metrics`, 10 s by default) is
        measured now: that may take a moment.

        Args:
            timeout: Seconds to wait for them.

        Raises:
            TimeoutError: If they did not come by then.
            PermissionDeniedError: If the token has not the role ``view``.
            ConnectionClosedError: If there is no link, and none will come.
        """
        return self._portal.call(self._async.metrics(), timeout)

    def __enter__(self) -> Self:
        self._portal.call(self._async.__aenter__())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is KeyboardInterrupt:
            self.leave_all()
        self.close()

    def __getattr__(self, name: str) -> Offered[Listener]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._async.offered(  # type: ignore[no-any-return]
            name, self._method, later=self.call_named, blocks=True
        )

    def __dir__(self) -> list[str]:
        names = (one.partition(".")[0] for one in self.server_methods())
        return sorted({*super().__dir__(), *names})

    def __repr__(self) -> str:
        return repr(self._async).replace("<AsyncConnection", "<Connection", 1)

    def _repr_html_(self) -> str:
        return connection_page(self._async)

    def leave_all(self) -> None:
        """Own no job any more, and say which go on: what Ctrl-C does."""
        for job_id in self._async.owned():
            leave_alone(self._async.release, job_id, self.name)

    def _method(self, command: BoundCommand) -> Callable[..., Listener]:
        def call(*args: Any, **keywords: Any) -> Listener:
            return self._call(command, args, keywords)

        return self._async.bind(command, call)

    def _call(
        self, command: BoundCommand, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Listener:
        job_id = new_job_id()
        if keywords.get("echo_response") is True and keywords.get("complete", True):
            return self._echo(command, args, keywords)
        try:
            return self._run(command, args, keywords, job_id=job_id)
        except KeyboardInterrupt:
            # An answer that nobody waits for is no job: there is nothing to find.
            if command.kind is Kind.VALUE:
                self._async.release(job_id)
            else:
                leave_alone(self._async.release, job_id, self.name)
            raise
        except Exception as exc:
            raise with_listener(exc, self._portal) from None

    def _run(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str,
    ) -> Listener:
        """Call a command; where its end alone is waited for, without a task."""
        is_whole = keywords.get("complete", True) is True
        if not is_whole or takes_files(command, keywords):
            call = self._async.call(command, args, keywords, job_id=job_id)
            return self._wrap(self._portal.call(call))
        begin = functools.partial(
            self._async.start_call, command, args, keywords, job_id=job_id
        )
        end = End(begin, self._async.give_up_call, wrap=self._wrap)
        self._portal.wait_for(end)
        listener = end.result()
        listener._messages.done = True  # its end was waited for
        return listener

    def _wrap(self, listener: AsyncListener) -> Listener:
        return Listener(listener, self._portal)

    def _listen(
        self,
        verb: Callable[..., Coroutine[Any, Any, AsyncListener]],
        *args: Any,
        **keywords: Any,
    ) -> Listener:
        """Call a verb that runs on the client; Ctrl-C stops what it does."""
        is_echoed = (keywords.get("echo_response"), keywords.get("complete", True))
        if is_echoed != (True, True):
            try:
                found = self._portal.call(verb(*args, **keywords))
            except Exception as exc:
                raise with_listener(exc, self._portal) from None
            return Listener(found, self._portal)
        quiet = {**keywords, "echo_response": False, "complete": False}
        listener = self._listen(verb, *args, **quiet)
        try:
            for message in listener:
                print_message(message)
            return listener.wait()
        except KeyboardInterrupt:
            listener.stop()
            raise

    def _echo(
        self, command: BoundCommand, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Listener:
        """Print in the caller's thread: that is where a notebook's cell listens."""
        quiet = {**keywords, "echo_response": False, "complete": False}
        listener = self._call(command, args, quiet)
        for message in listener:
            with listener._messages.leaving_alone():
                print_message(message)
        return listener.wait()
