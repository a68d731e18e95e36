"""One connection through a fault proxy: two sockets, and the bytes between them."""

from __future__ import annotations

import contextlib
import enum
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

__all__ = ["DIRECTIONS", "Conditions", "Cut", "Direction", "Relay", "State"]

Direction = Literal["to_client", "to_worker"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

CHUNK = 64 * 1024  # bytes that are read or written at once
MAX_HELD = 256 * 1024  # bytes that one direction of one connection keeps in memory
TICK = 0.01  # seconds between two pieces of a trickle, if it is not slower than that
END_LIMIT = 2.0  # seconds that the two ends may take to close after an orderly cut
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Cut(NamedTuple):
    """When and how a connection is to be broken.

    Attributes:
        after_bytes: How much is forwarded before that.
        direction: Which way those bytes go; None counts both.
        reset: True ends with RST, as a crashed host does; False with FIN, as an orderly
            close does.
    """

    after_bytes: int = 0
    direction: Direction | None = None
    reset: bool = False


@dataclass
class Conditions:
    """What all connections of a proxy meet in one direction just now.

    Attributes:
        stalled: True while nothing is read or written.
        rate: Bytes per second; None for as many as possible.
        delay: Seconds that each byte is kept.
        forwarded: How many bytes have gone this way, over all connections.
    """

    stalled: bool = False
    rate: float | None = None
    delay: float = 0.0
    forwarded: int = 0


class State(enum.Enum):
    """What a relay does."""

    CONNECTING = "waits for the worker's end to be connected"
    OPEN = "forwards"
    SILENT = "drops everything and tells nobody"
    ENDING = "has told both ends, and waits for them to close"
    OVER = "is closed"


class Relay:
    """Forwards between two sockets, as badly as it is told to.

    Nothing here waits: whoever drives it watches the sockets of :meth:`watched`, hands
    in what is ready, and calls :meth:`advance` after that and when :meth:`next_due`
    has passed. It is not thread-safe.

    Args:
        client: The accepted socket; worker: the other one, which may still be
            connecting. Both are non-blocking, and closed by this.
        conditions: What each direction meets; shared with others.
        on_cut: Called when it is broken by an order.
    """

    def __init__(
        self,
        client: socket.socket,
        worker: socket.socket,
        conditions: Mapping[Direction, Conditions],
        *,
        on_cut: Callable[[], object],
    ) -> None:
        self.state = State.CONNECTING
        self._on_cut = on_cut
        self._worker = worker
        self._sockets = [client, worker]  # that nothing was seen to end on
        self._flows: dict[Direction, _Flow] = {
            "to_worker": _Flow(client, worker, conditions["to_worker"]),
            "to_client": _Flow(worker, client, conditions["to_client"]),
        }
        self._cut: Cut | None = None
        self._left = 0  # bytes until the cut
        self._end_by = 0.0

    def cut(self, cut: Cut, now: float) -> None:
        """Break the connection, now or later; the newest order counts."""
        if self.state in (State.CONNECTING, State.OPEN, State.SILENT):
            self._cut, self._left = cut, cut.after_bytes
            if self._left <= 0:
                self._break(now, reset=cut.reset)

    def silence(self) -> None:
        """Forward nothing any more, without a word to either end."""
        if self.state in (State.CONNECTING, State.OPEN):
            self.state = State.SILENT

    def close(self, *, reset: bool = False) -> None:
        """Close both sockets at once."""
        self.state = State.OVER
        for flow in self._flows.values():
            if reset:
                with contextlib.suppress(OSError):  # closed already
                    linger = (socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                    flow.sink.setsockopt(*linger)
            flow.sink.close()

    def watched(self) -> Iterator[tuple[socket.socket, int]]:
        """Give the sockets to watch, with the events to watch them for."""
        if self.state is State.CONNECTING:
            yield self._worker, selectors.EVENT_WRITE
        elif self.state in (State.SILENT, State.ENDING):
            yield from ((sock, selectors.EVENT_READ) for sock in self._sockets)
        elif self.state is State.OPEN:
            out, back = self._flows.values()
            yield from (
                (out.source, out.interest(back)),
                (out.sink, back.interest(out)),
            )

    def ready(self, sock: socket.socket, now: float) -> None:
        """Take what a watched socket is ready for."""
        try:
            if self.state is State.CONNECTING:
                self._connected()
            elif self.state is State.OPEN:
                for flow in self._flows.values():
                    flow.ready(sock, now)
            elif self.state is not State.OVER and not sock.recv(CHUNK):
                self._sockets.remove(sock)
        except BlockingIOError:
            return
        except OSError:
            self._broken(sock)

    def advance(self, now: float) -> None:
        """Write what is due, and end what has ended."""
        if self.state is State.OPEN:
            try:
                for direction, flow in self._flows.items():
                    self._push(direction, flow, now)
            except OSError:
                self.close(reset=True)
        if self.state is State.OPEN and all(
            one.is_over for one in self._flows.values()
        ):
            self.close()
        late = self.state is State.ENDING and now >= self._end_by
        if late or (not self._sockets and self.state is not State.OVER):
            self.close()

    def next_due(self, now: float) -> float | None:
        """Give the seconds until :meth:`advance` has work; None for never."""
        if self.state is State.ENDING:
            return max(0.0, self._end_by - now)
        if self.state is not State.OPEN:
            return None
        waits = [flow.next_due(now) for flow in self._flows.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def _connected(self) -> None:
        problem = self._worker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, "connect")
        self.state = State.OPEN

    def _broken(self, sock: socket.socket) -> None:
        """Tell the other end of a broken one, unless nothing is told any more."""
        if self.state in (State.SILENT, State.ENDING):
            self._sockets.remove(sock)
        else:
            self.close(reset=True)

    def _push(self, direction: Direction, flow: _Flow, now: float) -> None:
        while self.state is State.OPEN:
            cut = self._cut
            counts = cut is not None and cut.direction in (None, direction)
            sent = flow.push(now, min(CHUNK, self._left) if counts else CHUNK)
            if not sent:
                return
            if cut is not None and counts:
                self._left -= sent
                if not self._left:
                    self._break(now, reset=cut.reset)

    def _break(self, now: float, *, reset: bool) -> None:
        self._on_cut()
        if reset or self.state is State.CONNECTING:
            self.close(reset=reset)
            return
        self.state = State.ENDING
        self._end_by = now + END_LIMIT
        for sock in self._sockets:
            # close() would send RST if something unread were left: so only say that
            # nothing more comes, and read on until they have closed, too.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)


class _Flow:
    """One direction: what was read and not written yet, and when it is due."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, conditions: Conditions
    ) -> None:
        self.source = source
        self.sink = sink
        self.is_over = False
        self._conditions = conditions
        self._held: deque[tuple[float, memoryview]] = deque()  # the end is an empty one
        self._size = 0
        self._at_end = False
        self._blocked = False
        self._free_at = 0.0  # when the trickle's next piece may go

    def interest(self, back: _Flow) -> int:
        """Give the events to watch the source for; ``back`` is the other direction."""
        events = selectors.EVENT_READ if self._wants_more() else 0
        return events | (selectors.EVENT_WRITE if back._blocked else 0)

    def ready(self, sock: socket.socket, now: float) -> None:
        if sock is self.sink:
            self._blocked = False
        elif self._wants_more():
            with contextlib.suppress(BlockingIOError):
                data = sock.recv(CHUNK)
                self._held.append((now + self._conditions.delay, memoryview(data)))
                self._size += len(data)
                self._at_end = not data

    def next_due(self, now: float) -> float | None:
        if not self._held or self._blocked or self._conditions.stalled:
            return None
        free_at = 0.0 if self._conditions.rate is None else self._free_at
        return max(0.0, self._held[0][0] - now, free_at - now)

    def push(self, now: float, limit: int) -> int:
        """Write one piece if one is due; give its size."""
        wait = self.next_due(now)
        if wait is None or wait > 0:
            return 0
        due, data = self._held.popleft()
        if not data:
            self.is_over = True
            self.sink.shutdown(socket.SHUT_WR)
            return 0
        sent = self._send(data[: min(limit, self._quantum())])
        if sent < len(data):
            self._held.appendleft((due, data[sent:]))
        self._pay(sent, now)
        return sent

    def _wants_more(self) -> bool:
        is_open = not (self._at_end or self._conditions.stalled)
        return is_open and self._size < MAX_HELD

    def _send(self, data: memoryview) -> int:
        try:
            return self.sink.send(data)
        except BlockingIOError:
            self._blocked = True
            return 0

    def _quantum(self) -> int:
        rate = self._conditions.rate
        return CHUNK if rate is None else max(1, int(rate * TICK))

    def _pay(self, sent: int, now: float) -> None:
        self._size -= sent
        self._conditions.forwarded += sent
        if self._conditions.rate is not None:
            self._free_at = now + sent / self._conditions.rate
