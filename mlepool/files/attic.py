"""Old versions of files, kept for a while: their content may be wanted again."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection
from pathlib import Path

__all__ = ["Attic", "default_limit", "real_size"]

MOST = 10 * 1024**3  # bytes
PART = 20  # of the disk: 5 %
BLOCK = 512  # bytes: the unit of st_blocks, whatever the file system's own is
UNKNOWN_FOR = 3600  # seconds until a file that the index does not know is removed


def default_limit(folder: Path) -> int:
    """Give how many bytes old versions may take: 10 GiB, or 5 % of a smaller disk."""
    disk = os.statvfs(folder)
    return min(MOST, disk.f_blocks * disk.f_frsize // PART)


class Attic:
    """A folder of files under names that say nothing.

    Args:
        folder: Where; made if it is not there.

    Raises:
        OSError: If it can't be.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = os.fsencode(folder.resolve())
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._device = os.fstat(self._fd).st_dev

    def take(self, stat: os.stat_result, *, dir_fd: int, name: bytes) -> bytes | None:
        """Link a file here; it stays where it is, too.

        Returns:
            Its path here; None if it is on another file system, or can't be linked.
        """
        if stat.st_dev != self._device:
            return None
        own = secrets.token_hex(8).encode()
        try:
            os.link(
                name, own, src_dir_fd=dir_fd, dst_dir_fd=self._fd, follow_symlinks=False
            )
        except OSError:  # others' files, or a file system without links
            return None
        return self.path + b"/" + own

    def has(self, path: bytes) -> bool:
        """Tell if a path is one of a file here."""
        return os.path.dirname(path) == self.path

    def drop(self, path: bytes) -> None:
        """Remove a file; none is fine."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.basename(path), dir_fd=self._fd)

    def clear(self, known: Collection[bytes], *, now: float) -> None:
        """Remove files that nobody knows of, but not those of the last hour.

        Args:
            known: Paths of those that are.
            now: Seconds since the epoch.
        """
        with os.scandir(self._fd) as found:
            names = [os.fsencode(one.name) for one in found]
        for name in names:
            if self.path + b"/" + name in known:
                continue
            with contextlib.suppress(OSError):
                stat = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if stat.st_ctime < now - UNKNOWN_FOR:
                    os.unlink(name, dir_fd=self._fd)

    def close(self) -> None:
        """Let go of the folder; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def real_size(stat: os.stat_result) -> int:
    """Give the bytes that a file takes of its disk."""
    return stat.st_blocks * BLOCK
