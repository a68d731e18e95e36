"""What a process may be fed from: bytes, text, files, iterators; all become bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator
from typing import Any

__all__ = ["CHUNK", "chunks", "open_source"]

CHUNK = 256 * 1024  # bytes (of a text file: characters) that are read at a time
AHEAD = CHUNK  # bytes from which on a source is read no further until some are taken


def open_source(source: Any) -> None:
    """See that a process can be fed from something, before it is started.

    Raises:
        OSError: If it is the path of a file that can't be read.
        TypeError: If it is nothing to be fed from.
    """
    if isinstance(source, os.PathLike):
        with open(source, "rb"):
            return
    if not any(hasattr(source, one) for one in ("__iter__", "__aiter__", "read")):
        raise TypeError(
            "input is str, bytes, a Path, an open file or an iterator, not "
            f"{type(source).__name__}"
        )


async def chunks(source: Any, encoding: str) -> AsyncIterator[bytes]:
    """Give what is in a source, as it can be had; what it raises is raised.

    What may block is read in a thread, a bounded part ahead.
    """
    if isinstance(source, str | bytes | bytearray | memoryview):
        yield _as_bytes(source, encoding)
    elif hasattr(source, "__aiter__"):
        async for one in source:
            yield _as_bytes(one, encoding)
    else:
        reader = _ThreadedReader(_pieces(source, encoding))
        try:
            while (data := await reader.next()) is not None:
                yield data
        finally:
            reader.stop()


class _ThreadedReader:
    """Reads what may block, in a thread of its own.

    The thread does not keep the process alive: it may never come to an end.
    """

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._come = asyncio.Event()
        self._changed = threading.Condition()
        self._held: deque[bytes] = deque()
        self._is_over = False
        self._is_stopped = False
        self._problem: BaseException | None = None
        threading.Thread(target=self._run, name="mlepool-input", daemon=True).start()

    async def next(self) -> bytes | None:
        """Wait for what comes next; None at the end."""
        while True:
            await self._come.wait()
            with self._changed:
                data = b"".join(self._held)
                self._held.clear()
                self._changed.notify()
                if not self._is_over:
                    self._come.clear()
            if data:
                return data
            if self._is_over:
                if self._problem is not None:
                    raise self._problem
                return None

    def stop(self) -> None:
        """Read no more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                if not self._put(piece):
                    break
        except BaseException as exc:
            # The top of a thread: whatever it was, who waits is told.
            self._problem = exc
        self._pieces.close()
        with self._changed:
            self._is_over = True
        self._wake()

    def _put(self, piece: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._is_stopped:
                return False
            self._held.append(piece)
        self._wake()
        return True

    def _has_room(self) -> bool:
        return self._is_stopped or sum(map(len, self._held)) < AHEAD

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._come.set)


def _pieces(source: Any, encoding: str) -> Generator[bytes]:
    if isinstance(source, os.PathLike):
        with open(source, "rb") as file:
            yield from _pieces(file, encoding)
    elif hasattr(source, "read"):
        # What a pipe or a terminal has now, not only what fills a chunk.
        read = getattr(source, "read1", source.read)
        while piece := read(CHUNK):
            yield _as_bytes(piece, encoding)
    else:
        for one in source:
            yield _as_bytes(one, encoding)


def _as_bytes(piece: Any, encoding: str) -> bytes:
    if isinstance(piece, str):
        return piece.encode(encoding)
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"input gives str or bytes, not {type(piece).__name__}")
