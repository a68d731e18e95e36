"""AsyncConnection: one worker; what it offers are this connection's methods."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Self

from mlepool.client.calls import Calls
from mlepool.client.catalogue.bindings import Bindings
from mlepool.client.catalogue.commands import Catalogue
from mlepool.client.checks import check_added, check_limit
from mlepool.client.events import Callbacks
from mlepool.client.handles import Handle
from mlepool.client.life import TRANSITIONS
from mlepool.client.links.conversation import Conversation, OpenCall
from mlepool.client.links.handshake import Entrance, dial
from mlepool.client.links.redial import LINK_CODES, Redial
from mlepool.client.links.trust import Target
from mlepool.client.state import WorkerState
from mlepool.client.telemetry import MetricsFeed, MetricsMethods
from mlepool.client.tidings import Tidings
from mlepool.errors import (
    ClientError,
    ConnectError,
    ConnectionClosedError,
    ConnectionLostError,
    ConnectTimeoutError,
    PortalError,
    RemoteProtocolError,
    UntrustedWorkerError,
)
from mlepool.peer import Peer

__all__ = ["AsyncConnection"]

logger = logging.getLogger("mlepool.client")

CONNECT_LIMIT = 30.0  # seconds for one attempt where the caller set no limit


class AsyncConnection(Bindings, Tidings, MetricsMethods, Handle):
    """A connection to one worker.

    The worker's commands are methods, with the worker's own signatures and docs, and
    these keywords: ``complete`` (wait for the end), ``timeout``, ``echo_response``,
    ``max_interval``, ``raise_error``. Each call gives an :class:`AsyncListener`.

    A lost link stops nothing. The connection dials again by itself, and its listeners
    go on where they were; what is called meanwhile waits for the link. ``close()``
    stops the jobs that were started through this connection, unless they were started
    with ``detach=True``.

    Args:
        target: Where the worker is.
        name: How the pool calls it.
        labels: Free-form labels.
        enter_connect: Have ``async with`` connect.
        enter_connect_timeout: Seconds that ``async with`` may take to connect.
        raise_error: Default of the keyword for all calls.
        proxy: URL of an HTTP or SOCKS proxy; the system's by default.
        connect_timeout: Seconds that connecting may take where no other limit is
            given; 30 by default.
        reconnect_timeout: Seconds after which to dial no more after a lost link; 0
            for not at all, None for ever.

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
        connect_timeout: float | None = None,
        reconnect_timeout: float | None = None,
    ) -> None:
        check_added(
            name=name,
            labels=labels,
            enter_connect=enter_connect,
            raise_error=raise_error,
            proxy=proxy,
        )
        check_limit("enter_connect_timeout", enter_connect_timeout)
        check_limit("connect_timeout", connect_timeout)
        self.name = name or target.name
        self.labels = dict(labels or {})
        self.raise_error = raise_error
        self._target = target
        self._enter_connect = enter_connect
        self._enter_connect_timeout = enter_connect_timeout
        self._proxy = proxy
        self._connect_limit = (
            CONNECT_LIMIT if connect_timeout is None else connect_timeout
        )
        self._reconnect_timeout = check_limit("reconnect_timeout", reconnect_timeout)
        self._state = "new"
        self._loop: asyncio.AbstractEventLoop | None = None  # of the latest link
        self._key = ""
        self._connecting = asyncio.Lock()
        self._worker = WorkerState()
        self._catalogue: Catalogue | None = None
        self._conversation: Conversation | None = None
        self._callbacks = Callbacks()
        self._redial = Redial(self._enter, limit=self._reconnect_timeout)
        self._calls = Calls(self)
        self._feed = MetricsFeed(self.name, self._calls.ask, self._tell_sample)

    # -- life

    async def connect(self) -> None:
        """Connect to the worker and bind its commands; nothing if it is connected.

        While it is reconnecting by itself, this waits for that.

        Raises:
            ConnectError: If it can't be reached within ``connect_timeout``, or one of:
            AuthenticationError: If the worker refuses us.
            UntrustedWorkerError: If it is not the trusted worker.
            VersionError: If there is no common protocol version.
            ConnectionClosedError: If this connection was closed for good.
        """
        await self.connect_within(None)

    async def connect_within(
        self, limit: float | None, *, absence: float | None = None
    ) -> None:
        """Connect as :meth:`connect`, within a limit in seconds.

        Args:
            limit: The seconds; None for ``connect_timeout``.
            absence: Seconds to wait at most while it is reconnecting by itself.
        """
        check_limit("timeout", limit)
        if self._state == "closed":
            raise ConnectionClosedError(self.name, self._state)
        self._check_loop()
        seconds = self._connect_limit if limit is None else limit
        if absence is not None and self._redial.is_on:
            seconds = min(seconds, absence)
        try:
            async with asyncio.timeout(seconds), self._connecting:
                if self._redial.is_on:
                    await self._wait_for_redial()
                elif self._conversation is None:
                    self._redial.hurry()
                    await self._enter()
        except TimeoutError as exc:
            if isinstance(exc, ConnectError):
                raise
            cause = f"no answer within {seconds:g} s"
            if self._redial.is_on:
                cause = f"{self._redial.cause}; no link within {seconds:g} s"
            raise self._error(cause, ConnectTimeoutError) from None

    async def disconnect(self) -> None:
        """Leave the worker; jobs go on. :meth:`connect` comes back. Twice is fine."""
        self._check_loop()
        conversation, cause = self._conversation, "this side has disconnected"
        if conversation is not None:
            self._move("left")
            conversation.peer.close("closed", cause)
            await conversation.peer.wait_closed()
        elif self._redial.is_on:
            self._redial.cancel()
            self._move("left")
            self._fail_all(cause)

    async def close(self) -> None:
        """Stop the jobs that this connection owns and leave for good. Twice is fine.

        Without a link they can't be stopped: a warning names them, and they go on.
        """
        if self._state == "closed":
            return
        self._check_loop()
        await self._calls.stop_owned()
        await self.disconnect()
        self._move("closed")

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
        return self._conversation is not None

    @property
    def is_reconnecting(self) -> bool:
        """True while the link is lost, and it tries to come back."""
        return self._redial.is_on

    @property
    def is_closed(self) -> bool:
        """True once closed for good."""
        return self._state == "closed"

    async def heartbeat(self) -> bool:
        """Ask the worker for a sign of life; False if there is no link to it."""
        if self._conversation is None:
            return False
        self._check_loop()
        return await self._conversation.heartbeat()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._state}>"

    @property
    def rtt(self) -> float | None:
        """Seconds that the latest ping waited for its answer; None before the first.

        It is measured a second after each connect, on an idle link every 20 s, and by
        :meth:`heartbeat`. What waits before it on the way, in both directions, counts.
        """
        conversation = self._conversation
        return None if conversation is None else conversation.peer.session.rtt

    # -- what conversations and calls need (their Owner)

    def check_usable(self) -> None:
        """Raise an error if there is no link, and none will come by itself."""
        if self._conversation is None and not self._redial.is_on:
            raise ConnectionClosedError(self.name, self._state)
        self._check_loop()

    def call_ended(self, call: OpenCall) -> None:
        """Note that a call's end has come."""
        self._calls.call_ended(call)

    def event_came(self, name: str, data: Any) -> None:
        """Note that something changed on the worker."""
        if name == "metrics":
            self._feed.take(data)
            return
        if name == "state-change":
            self._tell_change(self._worker.merge(data))
            return
        if name == "catalogue":
            data = self._take_catalogue(data)
        self._callbacks.emit(name, self, data)

    def link_gone(self, conversation: Conversation, cause: str, code: str) -> None:
        """Begin to come back, unless this side has left, or it makes no sense."""
        if conversation is not self._conversation:
            return  # it never came to be ours
        self._conversation = None
        self._calls.link_gone()
        self._feed.link_gone()
        self._redial.link_gone(has_worked=conversation.has_worked)
        if self._state == "disconnected":
            self._fail_all(cause)
        elif code in LINK_CODES and self._reconnect_timeout != 0:
            self._begin_redial(cause)
        else:
            self._give_up(cause)

    # -- within

    def _move(self, event: str) -> None:
        self._state = TRANSITIONS[self._state, event]

    async def _enter(self) -> None:
        """Dial, go through the handshake, and take up all open calls.

        Raises:
            ConnectError: If there is no way to the worker, or it is none.
            ConnectionClosedError: If this connection was closed meanwhile.
        """
        link = await dial(self._target, proxy=self._proxy)
        conversation = Conversation(self.name, self)
        entrance = Entrance(self._target, link, handler=conversation)
        welcome = await entrance.enter()
        conversation.peer = entrance.peer
        try:
            self._judge(conversation.peer, key=entrance.key)
            self._catalogue = Catalogue(self.name, entrance.offered(welcome))
        except RemoteProtocolError as exc:
            entrance.peer.close("protocol", str(exc))
            raise self._error(str(exc)) from exc
        except ClientError as exc:
            entrance.peer.close("closed", str(exc))
            raise
        self._key = entrance.key
        is_known = bool(self._worker.values)
        changed = self._worker.replace(welcome.state)
        self._entered(conversation)
        if is_known:
            self._tell_change(changed)
        conversation.release_events()

    def _judge(self, peer: Peer, *, key: str) -> None:
        """See if we can go on with who has let us in."""
        if self._state == "closed":
            raise ConnectionClosedError(self.name, self._state)
        if peer.is_gone:
            raise self._error("the link broke at once")
        if self._state == "reconnecting" and key != self._key:
            # It does not know our jobs: it would start them once more.
            cause = f"another worker answers there, with the key {key[:12]}..."
            raise self._error(cause, UntrustedWorkerError)

    def _check_loop(self) -> None:
        """Refuse who would wait for ever: answers come in the loop of the link."""
        is_linked = self._state in ("connected", "reconnecting")
        if is_linked and self._loop is not asyncio.get_running_loop():
            raise PortalError(
                f"the connection to {self.name} belongs to another event loop, which "
                "may have ended; add() one in this loop, or use mlepool.add()"
            )

    def _entered(self, conversation: Conversation) -> None:
        event = "reconnected" if self._state == "reconnecting" else "connected"
        self._move("entered")
        self._redial.link_made()
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()
        self._calls.link_made(conversation)
        self._feed.link_made()
        logger.info("%s: %s", self.name, event)
        self._callbacks.emit(event, self)

    def _begin_redial(self, cause: str) -> None:
        self._move("broken")
        logger.warning("lost the connection to %s: %s; reconnecting", self.name, cause)
        self._redial.begin(
            self._error(cause), lambda last: self._give_up(f"{cause}; {last}")
        )
        self._callbacks.emit("reconnecting", self)

    async def _wait_for_redial(self) -> None:
        await self._redial.wait()
        if self._conversation is None:
            closed = ConnectionClosedError(self.name, self._state)
            raise self._redial.problem or closed

    def _give_up(self, cause: str) -> None:
        self._move("given up")
        logger.warning("lost the connection to %s for good: %s", self.name, cause)
        self._fail_all(cause)

    def _fail_all(self, cause: str) -> None:
        """Tell everybody who waits that nothing more comes; jobs go on."""
        self._calls.fail(ConnectionLostError(self.name, cause))
        self._callbacks.emit(self._state, self)

    def _error(
        self, cause: str, kind: type[ConnectError] = ConnectError
    ) -> ConnectError:
        return kind(self._target.host or self._target.name, self._target.port, cause)
