"""What a command inside the worker says: values, progress and lines, to its journal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from mlepool.errors import LocalProtocolError
from mlepool.supervisor.recorder import Recorder
from mlepool.wire.messages import Outcome
from mlepool.wire.records import MAX_PAYLOAD, STDERR, YIELDED
from mlepool.wire.values import Progress
from mlepool.wire.yields import PROGRESS, VALUE, pack_yield

__all__ = ["TaskOutput"]

PROGRESS_INTERVAL = 0.1  # seconds between two states of progress; the last one comes
GROWTH_PAUSE = 0.001  # seconds between two tellings of growth: a wake-up each


class TaskOutput:
    """Writes a job's journal, from any thread. What comes after its end is dropped.

    Who yields waits for the disk and for nobody else: readers read the journal.

    Args:
        recorder: Writes within the journal's limits.
        loop: The event loop that runs here.
        grown: Called in the loop after the journal has grown.
    """

    def __init__(
        self,
        recorder: Recorder,
        loop: asyncio.AbstractEventLoop,
        *,
        grown: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._loop = loop
        self._grown = grown
        self._lock = threading.Lock()
        self._is_open = True
        self._is_telling = False
        self._told = 0.0
        self._batch = bytearray()
        self._stream = YIELDED  # that the batch is of
        self._held: Progress | None = None
        self._next_progress = 0.0

    def write_value(self, value: Any) -> bool:
        """Add a value; False if nobody takes values any more.

        Raises:
            TypeError: If it can't be sent as data.
        """
        try:
            parts = pack_yield(VALUE, value)
        except LocalProtocolError as exc:
            raise TypeError(f"what it yielded is {exc}") from None
        with self._lock:
            return self._write(YIELDED, parts)

    def write_line(self, text: str) -> None:
        """Add a line of what the command logs."""
        data = f"{text}\n".encode("utf-8", "replace")
        parts = [data[at : at + MAX_PAYLOAD] for at in range(0, len(data), MAX_PAYLOAD)]
        with self._lock:
            self._write(STDERR, parts)

    def write_progress(self, progress: Progress) -> None:
        """Note how far it is: at once, or a little later if that comes often."""
        with self._lock:
            was_held, self._held = self._held is not None, progress
            wait = self._next_progress - time.monotonic()
            if wait <= 0:
                self._write_held()
            elif not was_held and self._is_open:
                self._soon(lambda: self._loop.call_later(wait, self._flush))

    def end(self, outcome: Outcome) -> Outcome:
        """Write the end, completed with positions and digests; nothing comes after.

        :attr:`Recorder.is_saved` says if the disk has taken it.
        """
        with self._lock:
            self._write_held()
            self._write_batch()
            self._is_open = False
            return self._recorder.end(outcome)

    def _flush(self) -> None:
        with self._lock:
            self._write_held()

    def _write_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._next_progress = time.monotonic() + PROGRESS_INTERVAL
            self._write(YIELDED, pack_yield(PROGRESS, held))

    def _write(self, stream: int, parts: list[bytes]) -> bool:
        if not self._is_open:
            return False
        for part in parts:
            if stream != self._stream or len(self._batch) + len(part) > MAX_PAYLOAD:
                self._write_batch()
                self._stream = stream
            self._batch += part
        if not self._is_telling:
            self._write_batch()
            self._is_telling = True
            self._soon(self._tell)
        return True

    def _write_batch(self) -> None:
        """Write what came since readers were last told: as one record, not hundreds."""
        if self._batch:
            self._recorder.write(self._stream, bytes(self._batch))
            self._batch.clear()

    def _soon(self, call: Callable[[], object]) -> None:
        # The loop may have ended with the worker, and a thread of it lived on.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _tell(self) -> None:
        wait = self._told + GROWTH_PAUSE - self._loop.time()
        if wait > 0:
            self._loop.call_later(wait, self._tell)
            return
        self._told = self._loop.time()
        with self._lock:
            self._write_batch()
            self._is_telling = False  # what comes from now on is told again
        self._grown()
