"""Feeds one process's stdin, without waiting for it."""

import errno
import os
import termios
from collections import OrderedDict

__all__ = ["Stdin"]

MAX_PENDING = 1024 * 1024  # bytes held for a process that reads slowly
MAX_WRITERS = 4096  # the latest are known; an older one's repeats would be news
LINE_ENDS = b"\r\n"  # what makes a terminal hand a line over


class Stdin:
    """Our end of a process's stdin, for any number of writers.

    Each writer counts its own bytes, so that what one of them repeats is known, and
    what two of them send is all taken.

    Args:
        fd: A descriptor that does not block; -1 for a process without stdin.
        is_terminal: True for a terminal, whose input ends by a character: its
            descriptor stays that of its output.
    """

    def __init__(self, fd: int = -1, *, is_terminal: bool = False) -> None:
        self.fd = fd
        self._is_terminal = is_terminal
        self._pending = bytearray()
        self._ends = False
        self._written = 0
        self._last = b"\n"
        self._latest = ""
        # Of each writer: its bytes, and where the last of them is in all input.
        self._writers: OrderedDict[str, tuple[int, int]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """True while bytes may be fed."""
        return self.fd >= 0

    @property
    def fed(self) -> int:
        """Bytes of the writer who fed last that the process has taken, at least."""
        taken, end = self._writers.get(self._latest, (0, 0))
        return taken - min(taken, max(0, end - self._written))

    @property
    def is_waiting(self) -> bool:
        """True while there is something to do once the process has read."""
        return self.fd >= 0 and (bool(self._pending) or self._ends)

    def feed(self, offset: int, data: bytes, *, end: bool, writer: str = "") -> None:
        """Take bytes; those that this writer has sent before are passed over.

        Nothing is taken once it is closed.

        Raises:
            ValueError: If bytes before them are missing, or too many wait.
        """
        self._latest = writer
        if self.fd < 0 or self._ends:
            return
        taken, last = self._writers.get(writer, (0, 0))
        if offset > taken:
            raise ValueError(f"stdin is at {taken}, not at {offset}")
        new = data[taken - offset :]
        if len(self._pending) + len(new) > MAX_PENDING:
            raise ValueError("the process does not read its stdin")
        self._pending += new
        if new:
            last = self._written + len(self._pending)
        self._writers[writer] = taken + len(new), last
        self._writers.move_to_end(writer)
        if len(self._writers) > MAX_WRITERS:
            self._writers.popitem(last=False)
        if end:
            self._end()
        self.write()

    def write(self) -> None:
        """Write what is taken now; close at the end or when nobody reads."""
        try:
            while self._pending:
                count = os.write(self.fd, self._pending)
                self._last = bytes(self._pending[count - 1 : count])
                self._written += count
                del self._pending[:count]
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal's EPIPE
                raise
            self._ends = True
        if self._ends:
            self.close()

    def close(self) -> None:
        """Close it; what waited was not taken. Twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._pending.clear()

    def _end(self) -> None:
        """Have it end after what waits; a terminal is told by its character for it."""
        self._ends = True
        if self._is_terminal:
            last = self._pending[-1:] or self._last
            # In the middle of a line the first one only hands the line over.
            count = 1 if last in LINE_ENDS else 2
            self._pending += termios.tcgetattr(self.fd)[6][termios.VEOF] * count
