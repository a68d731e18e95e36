"""A proxy that harms the link between a client and a worker as it is told to.

It is for tests of your own programs, blocking or asyncio, and runs in a thread::

    with FaultProxy(worker_port) as proxy:
        conn = mlepool.add("localhost", proxy.port)
        ...
        proxy.cut(after_bytes=1000, direction="to_client")
"""

from __future__ import annotations

import contextlib
import functools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from mlepool.testing.door import Door, LocalPlace, Place, dial, resolve
from mlepool.testing.relay import DIRECTIONS, Conditions, Cut, Direction, Relay, State

__all__ = ["Cut", "Direction", "FaultProxy"]

MAX_WAIT = 3600.0  # seconds; epoll takes no more than 24 days


class FaultProxy:
    """Forwards bytes between clients and a worker, and breaks what it is told to.

    It listens as soon as it is made, on loopback only, until :meth:`close`; use it with
    ``with``. Every method may be called from any thread, returns at once, and what it
    orders holds when it has returned. A fault concerns the connections there are and
    those to come, unless its method says otherwise. ``direction`` is ``"to_client"``,
    ``"to_worker"``, or None for both.

    Args:
        upstream: The worker: a port of this machine, ``(host, port)``, or the path of
            a unix socket. May be assigned later; connections made after that go there.
        listen: The port to listen on, 0 for any; or the path of a unix socket to make.

    Attributes:
        connections: How many connections were forwarded, or tried to be.
        cuts: How many of them were broken by an order or by the schedule.

    Raises:
        OSError: If it can't listen there, or the host has no address.
        ValueError: For a port in front of a unix socket: whoever can connect to a unix
            socket is trusted, and a port is open to all accounts of the machine.
    """

    def __init__(self, upstream: Place, *, listen: LocalPlace = 0) -> None:
        self.connections = 0
        self.cuts = 0
        self._door = Door(listen)
        try:
            self.upstream = upstream
        except BaseException:
            self._door.close()
            raise
        self._conditions: dict[Direction, Conditions] = {
            direction: Conditions() for direction in DIRECTIONS
        }
        self._relays: list[Relay] = []
        self._schedule: Iterator[Cut] = iter(())
        self._closes_at_once = False
        self._is_closed = False
        self._lock = threading.Lock()  # for the two: no order comes after the end
        self._orders: deque[tuple[Callable[[], Any], Future[None]]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, daemon=True, name="FaultProxy"
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the listener and all connections. Twice is fine."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._do(lambda: setattr(self, "_is_closed", True))
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a unix socket."""
        return 0 if self._door.is_unix else int(self._door.address[1])

    @property
    def address(self) -> str:
        """Where it listens, as :func:`mlepool.add` takes it."""
        return str(self._door)

    @property
    def open_connections(self) -> int:
        """How many connections it has now, those that it holds half-open included."""
        return len(self._relays)

    @property
    def upstream(self) -> Place:
        """Where the worker is."""
        return self._upstream

    @upstream.setter
    def upstream(self, place: Place) -> None:
        address = resolve(place)
        if isinstance(address, str) and not self._door.is_unix:
            raise ValueError("a unix socket needs listen= with a unix socket's path")
        self._upstream, self._upstream_address = place, address

    def forwarded(self, direction: Direction | None = None) -> int:
        """Count the bytes that were forwarded so far, over all connections."""
        with contextlib.suppress(RuntimeError):  # closed: nothing is being counted
            self._do(lambda: None)
        return sum(self._conditions[one].forwarded for one in _directions(direction))

    def cut(self, *, after_bytes: int = 0, direction: Direction | None = None) -> None:
        """Break the connections there are now, as an orderly close does (FIN).

        Args:
            after_bytes: How much each still forwards, to the byte; 0 is at once.
            direction: Which way those bytes go; None counts both.
        """
        self._cut_all(Cut(after_bytes, direction))

    def reset(
        self, *, after_bytes: int = 0, direction: Direction | None = None
    ) -> None:
        """Break the connections there are now, as a crash does (RST).

        What was forwarded but not read yet may be lost with it. A unix socket knows no
        RST: its ends see a close.

        Args:
            after_bytes: How much each still forwards; 0 is at once.
            direction: Which way those bytes go; None counts both.
        """
        self._cut_all(Cut(after_bytes, direction, reset=True))

    def schedule(self, cuts: Iterable[Cut]) -> None:
        """Say how the next connections end: each takes one, until none is left.

        A connection's bytes are counted from its begin. A new schedule replaces the
        rest of the one before it.
        """
        iterator = iter(cuts)
        self._do(lambda: setattr(self, "_schedule", iterator))

    def stall(self, direction: Direction | None = None) -> None:
        """Read and forward nothing, and keep the connections open."""
        self._set(direction, stalled=True)

    def trickle(self, rate: float, direction: Direction | None = None) -> None:
        """Forward no more than ``rate`` bytes per second on each connection.

        Raises:
            ValueError: If the rate is not above 0.
        """
        if not rate > 0:
            raise ValueError(f"a rate is above 0, not {rate}")
        self._set(direction, rate=rate)

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Keep every byte for so long, in order. 256 KiB at most are on their way.

        Raises:
            ValueError: If it is below 0.
        """
        if not seconds >= 0:
            raise ValueError(f"a delay is 0 or more, not {seconds}")
        self._set(direction, delay=seconds)

    def resume(self, direction: Direction | None = None) -> None:
        """End stall, trickle and delay. What was read meanwhile is forwarded."""
        self._set(direction, stalled=False, rate=None, delay=0.0)

    def half_open(self) -> None:
        """Drop everything on the connections there are now, and tell neither end.

        So it is when a firewall forgets a connection. There is no way back: the bytes
        are lost; :meth:`reset` and :meth:`cut` end it. New connections are forwarded.
        """
        self._do(self._silence)

    def refuse(self, *, after_accept: bool = False) -> None:
        """Take no new connection; those there are go on.

        Args:
            after_accept: False refuses them, as where nothing listens; True accepts
                them and closes them at once.
        """
        self._do(functools.partial(self._refuse, after_accept=after_accept))

    def accept(self) -> None:
        """Take new connections again, at the same address."""
        self._do(self._accept_again)

    # -- in the thread

    def _do(self, order: Callable[[], Any]) -> None:
        """Have the thread do something, and return when it is done."""
        done: Future[None] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the proxy is closed")
            self._orders.append((order, done))
            self._waker.send(b"!")
        done.result()

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
        finally:  # also where a schedule raised
            self._end()

    def _turn(self) -> None:
        ready = self._wait()
        self._obey()
        now = time.monotonic()
        for callback in ready:
            callback(now)
        for relay in self._relays:
            relay.advance(now)
        self._relays = [one for one in self._relays if one.state is not State.OVER]

    def _wait(self) -> list[Callable[[float], object]]:
        """Wait until something can be done; give what."""
        now = time.monotonic()
        waits = [MAX_WAIT, *(relay.next_due(now) for relay in self._relays)]
        # Made anew for each wait: so it never knows a socket that is closed by now.
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ, _nothing)
            if self._door.listener is not None:
                selector.register(self._door.listener, selectors.EVENT_READ, self._take)
            for relay in self._relays:
                for sock, events in relay.watched():
                    if events:
                        ready = functools.partial(relay.ready, sock)
                        selector.register(sock, events, ready)
            timeout = min(wait for wait in waits if wait is not None)
            return [key.data for key, _ in selector.select(timeout)]

    def _obey(self) -> None:
        # First this: an order that comes from now on wakes us again.
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        if self._orders:
            self._take(time.monotonic())  # who has connected by now is concerned
        while self._orders:
            order, done = self._orders.popleft()
            try:
                order()
            except Exception as exc:
                done.set_exception(exc)
            else:
                done.set_result(None)

    def _take(self, now: float) -> None:
        """Accept all who have connected."""
        while self._door.listener is not None:
            try:
                client, _ = self._door.listener.accept()
            except OSError:
                return  # there is none, or it has given up before we came to it
            if self._closes_at_once:
                client.close()
            else:
                self._relay(client, now)

    def _relay(self, client: socket.socket, now: float) -> None:
        self.connections += 1
        client.setblocking(False)
        worker = dial(self._upstream_address)
        relay = Relay(client, worker, self._conditions, on_cut=self._count_cut)
        self._relays.append(relay)
        cut = next(self._schedule, None)
        if cut is not None:
            relay.cut(cut, now)

    def _count_cut(self) -> None:
        self.cuts += 1

    def _cut_all(self, cut: Cut) -> None:
        _directions(cut.direction)
        now = time.monotonic()

        def order() -> None:
            for relay in self._relays:
                relay.cut(cut, now)

        self._do(order)

    def _set(self, direction: Direction | None, **values: Any) -> None:
        """Set conditions; done in the thread, so that it holds from now on."""

        def order() -> None:
            for one in _directions(direction):
                for name, value in values.items():
                    setattr(self._conditions[one], name, value)

        self._do(order)

    def _silence(self) -> None:
        for relay in self._relays:
            relay.silence()

    def _refuse(self, *, after_accept: bool) -> None:
        self._accept_again()
        self._closes_at_once = after_accept
        if not after_accept:
            self._door.shut()

    def _accept_again(self) -> None:
        self._closes_at_once = False
        self._door.open()

    def _end(self) -> None:
        with self._lock:
            self._is_closed = True
        for _, done in self._orders:
            done.set_exception(RuntimeError("the proxy is closed"))
        for relay in self._relays:
            relay.close()
        self._relays = []
        self._door.close()
        self._waker.close()
        self._woken.close()


def _nothing(now: float) -> None:
    """Do nothing: being woken is all."""


def _directions(direction: Direction | None) -> tuple[Direction, ...]:
    if direction is None:
        return DIRECTIONS
    if direction not in DIRECTIONS:
        raise ValueError(f"a direction is one of {DIRECTIONS} or None: {direction!r}")
    return (direction,)
