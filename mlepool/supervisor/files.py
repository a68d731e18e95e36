"""What the journal needs of files, where the standard library has no name for it."""

import ctypes
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Disk", "Piece", "Syncer", "look_at_disk", "punch", "punches", "write_whole"]

Piece = bytes | memoryview  # of what is written

logger = logging.getLogger("mlepool.supervisor")

KEEP_SIZE, PUNCH_HOLE = 1, 2  # fallocate(2)
BEYOND = 1 << 40  # bytes behind the end of a file: nothing is there to be lost
MOST_FREE = 10 * 1024**3  # bytes
SYNC_WITHIN = 0.1  # seconds until what was written is being made safe
SYNC_AFTER = 0.8 * SYNC_WITHIN  # that it waits for others: we may wake up late
MANY = 16  # files from which on the whole file system is written out at once


def write_whole(fd: int, parts: Sequence[Piece], at: int) -> int:
    """Write at an offset, all or nothing.

    Returns:
        The offset after it.

    Raises:
        OSError: If not all could be written; what was is cut off again.
    """
    size = sum(map(len, parts))
    written = os.pwritev(fd, parts, at)
    if written != size:
        rest = memoryview(b"".join(parts))
        try:
            while written < size:
                written += os.pwrite(fd, rest[written:], at + written)
        except OSError:
            os.ftruncate(fd, at)
            raise
    return at + size


def punch(fd: int, offset: int, size: int) -> None:
    """Give a part of a file back to the disk; it reads as zeros from then on.

    Raises:
        OSError: If the file system can't.
    """
    mode = PUNCH_HOLE | KEEP_SIZE
    if _libc().fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def punches(fd: int) -> bool:
    """Tell if a file's system can give parts back."""
    try:
        punch(fd, os.fstat(fd).st_size + BEYOND, 4096)
    except (OSError, AttributeError):
        return False
    return True


class Disk(NamedTuple):
    """Bytes of a disk: all, and those that are free for us."""

    size: int
    free: int

    def lacks(self, part: float) -> int:
        """Give how many bytes fall short of a part that is to be free; 0 for none.

        Of a large disk no more than :data:`MOST_FREE` is asked for: many are nine
        tenths full all the time.
        """
        return max(0, int(min(self.size * part, MOST_FREE)) - self.free)


def look_at_disk(folder: Path) -> Disk:
    """Measure the disk that a folder is on."""
    disk = os.statvfs(folder)
    return Disk(disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)


class Syncer:
    """Makes what was written safe from a loss of power, many files at a time.

    A thread of its own, since fsync(2) waits for the disk. It touches nothing but the
    descriptors that it was given.

    Args:
        folder: Where the files are.
        wake: Called in that thread after files were made safe.
    """

    def __init__(self, folder: Path, wake: Callable[[], object]) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        self._wake = wake
        self._waiting: list[tuple[int, Callable[[], None] | None]] = []
        self._due = 0.0  # when the first of them is to be made safe
        self._done: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def add(self, fd: int, then: Callable[[], None] | None = None) -> None:
        """Take a descriptor, to be made safe and closed.

        Args:
            fd: It is the syncer's from now on.
            then: To be called after that, by :meth:`settle`, and soon; None for a
                file that has :data:`SYNC_WITHIN`.
        """
        with self._lock:
            if not self._waiting:
                self._due = time.monotonic() + SYNC_AFTER
            self._waiting.append((fd, then))
            if then is not None or len(self._waiting) == 1:
                self._changed.notify()

    def settle(self) -> None:
        """Call what was to be called, in the caller's thread."""
        if not self._done:
            return
        with self._lock:
            done, self._done = self._done, []
        for then in done:
            then()

    def close(self) -> None:
        """Make safe what is waiting, and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        os.close(self._folder)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                while (left := self._time_left()) > 0:
                    self._changed.wait(left)
                batch, self._waiting = self._waiting, []
            self._sync([fd for fd, _ in batch])
            done = [then for _, then in batch if then is not None]
            if done:
                with self._changed:
                    self._done += done
                self._wake()

    def _time_left(self) -> float:
        if self._is_closing or any(then is not None for _, then in self._waiting):
            return 0.0
        return self._due - time.monotonic()

    def _sync(self, fds: list[int]) -> None:
        is_done = len(fds) >= MANY and _libc().syncfs(self._folder) == 0
        # A new file's name is its folder's affair; that comes last.
        for fd in () if is_done else (*fds, self._folder):
            try:
                os.fsync(fd)
            except OSError as exc:
                # The disk is broken or full: nothing here can mend it, jobs go on.
                logger.error("a journal may be lost with the power: %s", exc)
        for fd in fds:
            os.close(fd)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
