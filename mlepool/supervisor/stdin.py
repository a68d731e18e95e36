"""Feeds one process's stdin, without waiting for it."""

import errno
import os

__all__ = ["Stdin"]

MAX_PENDING = 1024 * 1024  # bytes held for a process that reads slowly


class Stdin:
    """Our end of a process's stdin.

    Args:
        fd: A descriptor that does not block; -1 for a process without stdin.
    """

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self._pending = bytearray()
        self._ends = False
        self._taken = 0

    @property
    def is_open(self) -> bool:
        """True while bytes may be fed."""
        return self.fd >= 0

    @property
    def fed(self) -> int:
        """Bytes that the process has taken."""
        return self._taken - len(self._pending)

    @property
    def is_waiting(self) -> bool:
        """True while there is something to do once the process has read."""
        return self.fd >= 0 and (bool(self._pending) or self._ends)

    def feed(self, offset: int, data: bytes, *, end: bool) -> None:
        """Take bytes; those that came before are passed over.

        Nothing is taken once it is closed.

        Raises:
            ValueError: If bytes before them are missing, or too many wait.
        """
        if self.fd < 0:
            return
        if offset > self._taken:
            raise ValueError(f"stdin is at {self._taken}, not at {offset}")
        new = data[self._taken - offset :]
        if len(self._pending) + len(new) > MAX_PENDING:
            raise ValueError("the process does not read its stdin")
        self._taken += len(new)
        self._pending += new
        self._ends = self._ends or end
        self.write()

    def write(self) -> None:
        """Write what is taken now; close at the end or when nobody reads."""
        try:
            while self._pending:
                del self._pending[: os.write(self.fd, self._pending)]
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.EPIPE:
                raise
            self._ends = True
        if self._ends:
            self.close()

    def close(self) -> None:
        """Close it; what waited was not taken. Twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._taken -= len(self._pending)
        self._pending.clear()
