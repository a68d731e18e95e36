"""Finds out that a program waits in the middle of a line: a prompt.

What comes late is no prompt: a slow or a lost link cuts lines anywhere. So the worker
is asked, after a short quiet, if there is more of the output than has come.
"""

import asyncio
from collections.abc import Callable, Iterable

from mlepool.wire.records import Record

__all__ = ["LOOK_AGAIN", "QUIET", "Pauses"]

QUIET = 0.1  # seconds without more of a stream
LOOK_AGAIN = 1.0  # seconds until a worker that has not answered is asked once more


class Pauses:
    """Watches one command's output for lines that stay open.

    Args:
        look: Asks the worker where the output ends now; nothing without a link.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._open: dict[int, float] = {}  # streams in a line, and since when
        self._timer: asyncio.TimerHandle | None = None

    def note(self, records: Iterable[Record]) -> None:
        """Note what has come."""
        for record in records:
            if record.data.endswith(b"\n"):
                self._open.pop(record.stream, None)
            else:
                self._open[record.stream] = asyncio.get_running_loop().time()
        if self._open and self._timer is None:
            self._set_timer(min(self._open.values()) + QUIET)

    def nothing_more(self) -> list[Record]:
        """Note that the worker has no more output than has come.

        Returns:
            A record without data for each stream that has paused.
        """
        now = asyncio.get_running_loop().time()
        quiet = [one for one, since in self._open.items() if since + QUIET <= now]
        for stream in quiet:
            del self._open[stream]
        return [Record(0.0, stream, b"") for stream in quiet]

    def stop(self) -> None:
        """Watch no more. Twice is fine."""
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(when, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._open:
            return
        now, due = asyncio.get_running_loop().time(), min(self._open.values()) + QUIET
        if due <= now:
            self._set_timer(now + LOOK_AGAIN)
            self._look()
        else:
            self._set_timer(due)
