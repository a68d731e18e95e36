"""The supervisor's line to its worker: one at a time, and the newest is the one."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from mlepool.errors import RemoteProtocolError
from mlepool.supervisor.channel import Channel
from mlepool.supervisor.messages import decode_to_supervisor, encode
from mlepool.supervisor.timers import Timers
from mlepool.supervisor.waiter import READ, WRITE, Waiter

__all__ = ["WorkerLine"]

logger = logging.getLogger("mlepool.supervisor")

ACCEPT_PAUSE = 0.5  # seconds before a worker that could not be accepted is tried again


class WorkerLine:
    """Accepts workers, and talks with the one that came last.

    Args:
        listener: The listening unix socket.
        waiter: What waits for sockets; each callback takes nothing.
        timers: What calls us again.
        received: Takes what the worker says.
        settled: Called after some messages that came together.
        lost: Called when a worker has gone.
    """

    def __init__(
        self,
        listener: socket.socket,
        waiter: Waiter,
        timers: Timers,
        *,
        received: Callable[[Any], None],
        settled: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._waiter = waiter
        self._timers = timers
        self._received = received
        self._settled = settled
        self._lost = lost
        self._channel: Channel | None = None
        self._is_waiting = False  # for the worker to read

    @property
    def is_up(self) -> bool:
        """True while a worker is there."""
        return self._channel is not None

    @property
    def has_backlog(self) -> bool:
        """True while bytes wait for the worker to read.

        What was said since the last flush does not count: that goes at once.
        """
        return self._is_waiting

    def open(self) -> None:
        """Wait for workers."""
        self._waiter.register(self._listener, READ, self._accept)

    def send(self, message: Any) -> None:
        """Say something; nobody hears it if there is no worker."""
        if self._channel is not None:
            self._channel.send(encode(message))

    def flush(self) -> None:
        """Write what the worker's socket takes now."""
        channel = self._channel
        if channel is None or not (channel.has_backlog or self._is_waiting):
            return
        try:
            channel.flush()
        except OSError:
            self.drop()
            return
        if channel.has_backlog is not self._is_waiting:
            self._is_waiting = channel.has_backlog
            both = READ | WRITE
            events = both if self._is_waiting else READ
            self._waiter.modify(channel.sock, events, self._ready)

    def drop(self) -> None:
        """Let the worker go."""
        if self._channel is not None:
            self._waiter.unregister(self._channel.sock)
            self._channel.close()
            self._channel = None
            self._is_waiting = False
            self._lost()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as exc:
            # Out of descriptors: the worker waits until jobs have let some go.
            logger.error("cannot accept a worker: %s", exc)
            self._waiter.unregister(self._listener)
            self._timers.after(ACCEPT_PAUSE, self.open)
            return
        self.drop()  # the newest worker is the one: it holds the lock
        self._channel = Channel(sock)
        self._is_waiting = False
        self._waiter.register(sock, READ, self._read)

    def _ready(self) -> None:
        self.flush()
        self._read()

    def _read(self) -> None:
        channel = self._channel
        try:
            for frame in channel.receive() if channel is not None else ():
                self._received(decode_to_supervisor(frame))
            self._settled()
            if channel is not None and channel.has_frames:
                self._timers.set("orders", 0, self._read)
        except EOFError:
            self.drop()
        except (OSError, ValueError, RemoteProtocolError) as exc:
            logger.warning("dropped the worker: %s", exc)
            self.drop()
