"""What clients send to a command inside the worker: lines, with back-pressure."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator

from mlepool.wire.values import InputAck

__all__ = ["TaskInput"]

ROOM = 64 * 1024  # bytes that wait for a command that reads slowly: a pipe's size
MAX_WRITERS = 4096  # the latest are known; an older one's repeats would be news


class TaskInput:
    """The lines that clients send to a job: ``ctx.input``.

    ``for line in ctx.input`` in a plain function, ``async for`` in an async one. A line
    is a str without its newline. It ends when a client closes the input, and when the
    command is to stop. Clients that send more than is read are held up.

    Several writers may send, each counting its own bytes: what one of them repeats
    over another link is passed over.

    Args:
        loop: The event loop that runs here: nobody may block there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._changed = threading.Condition()
        self._lines: deque[tuple[str, int]] = deque()
        self._waiting = 0  # bytes in them
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._part = ""
        self._is_closed = False
        self._writers: OrderedDict[str, int] = OrderedDict()
        self._watchers: list[asyncio.Future[None]] = []

    @property
    def is_closed(self) -> bool:
        """True if nothing more will come."""
        return self._is_closed

    def __iter__(self) -> Iterator[str]:
        """Give the lines, waiting for each in this thread.

        Raises:
            RuntimeError: In an async function: that needs ``async for``.
        """
        while (line := self._wait_for_line()) is not None:
            yield line

    async def __aiter__(self) -> AsyncIterator[str]:
        """Give the lines; on the worker's event loop."""
        while (line := await self._await_line()) is not None:
            yield line

    async def feed(
        self, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Take a writer's bytes, as there is room for them; one call at a time.

        Raises:
            ValueError: If bytes before them are missing.
        """
        taken = self._writers.get(writer, 0)
        if offset > taken:
            raise ValueError(f"the input is at {taken}, not at {offset}")
        new = data[taken - offset :]
        while new and not self._is_closed:
            piece, new = new[:ROOM], new[ROOM:]
            await self._wait_for_room()
            if not self._is_closed:
                self._add(piece)
                taken += len(piece)
                self._note(writer, taken)
        if end:
            self.close()
        return InputAck(taken, self._is_closed)

    def close(self) -> None:
        """Take no more; what has come is still read. Twice is fine."""
        with self._changed:
            if not self._is_closed:
                self._is_closed = True
                self._split(self._decoder.decode(b"", final=True), is_last=True)
            self._wake()

    def end(self) -> None:
        """Give no more lines either: the command is to stop."""
        with self._changed:
            self._is_closed = True
            self._lines.clear()
            self._wake()

    def _note(self, writer: str, taken: int) -> None:
        self._writers[writer] = taken
        self._writers.move_to_end(writer)
        if len(self._writers) > MAX_WRITERS:
            self._writers.popitem(last=False)

    def _add(self, data: bytes) -> None:
        with self._changed:
            self._split(self._decoder.decode(data))
            self._wake()

    def _split(self, text: str, *, is_last: bool = False) -> None:
        *lines, self._part = (self._part + text).split("\n")
        if len(self._part) > ROOM or (is_last and self._part):
            lines.append(self._part)  # too long to wait for its end, or the last one
            self._part = ""
        for line in lines:
            self._lines.append((line.removesuffix("\r"), len(line) + 1))
            self._waiting += len(line) + 1

    def _wake(self) -> None:
        self._changed.notify_all()
        watchers, self._watchers = self._watchers, []
        for future in watchers:
            # The loop may have ended with the worker, and a thread of it lived on.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, future)

    def _take(self) -> str | None:
        if not self._lines:
            return None
        line, size = self._lines.popleft()
        self._waiting -= size
        self._wake()
        return line

    def _wait_for_line(self) -> str | None:
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("in an async function: async for line in ctx.input")
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            return self._take()

    async def _await_line(self) -> str | None:
        while True:
            with self._changed:
                if self._lines or self._is_closed:
                    return self._take()
                future = self._watch()
            await future

    async def _wait_for_room(self) -> None:
        while True:
            with self._changed:
                if self._waiting < ROOM or self._is_closed:
                    return
                future = self._watch()
            await future

    def _watch(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._watchers.append(future)
        return future


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
