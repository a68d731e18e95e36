"""What a session that died had received: written down chunk by chunk, found again."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mlepool.files.base import Chunk
from mlepool.files.yard import StageFolder

__all__ = ["ChunkLog", "Place", "StagedChunk", "find_left"]

LOG = b"chunks"
MOST = 64 * 1024 * 1024  # bytes read of a log: a million chunks
_RECORD = struct.Struct("<32sIQI")
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class Place(Protocol):
    """Where a chunk lies on this machine."""

    @property
    def offset(self) -> int:
        """Where in its file, bytes."""

    @property
    def is_proven(self) -> bool:
        """False if it is to be hashed before it is believed."""

    def open(self) -> int | None:
        """Open its file, if it is still there; who calls closes."""


class StagedChunk(NamedTuple):
    """Where a chunk lies in a folder of staged files.

    Attributes:
        folder: The folder's descriptor.
        number: The file's number.
        offset: Where in the file.
    """

    folder: int
    number: int
    offset: int

    @property
    def is_proven(self) -> bool:
        """Always hashed: a session may have died at any time."""
        return False

    def open(self) -> int | None:
        """Open the file; who calls closes."""
        try:
            return os.open(str(self.number), os.O_RDONLY | _FLAGS, dir_fd=self.folder)
        except OSError:
            return None


class ChunkLog:
    """Writes down which chunks were received.

    Args:
        folder: The descriptor of the folder that is staged in.
    """

    def __init__(self, folder: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _FLAGS
        self._fd = os.open(LOG, flags, 0o600, dir_fd=folder)
        self._waiting: list[bytes] = []

    def note(self, chunk: Chunk, number: int, offset: int) -> None:
        """Note one; written by :meth:`flush`."""
        record = _RECORD.pack(chunk.digest, number, offset, chunk.length)
        self._waiting.append(record)

    def flush(self) -> None:
        """Write what was noted. It only saves work: a full disk is no failure here."""
        if self._waiting:
            with contextlib.suppress(OSError):
                os.write(self._fd, b"".join(self._waiting))
            self._waiting.clear()

    def close(self) -> None:
        """Close it; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def find_left(folders: Sequence[StageFolder]) -> dict[bytes, StagedChunk]:
    """Read which chunks dead sessions had received, by their digests."""
    found = {}
    for one in folders:
        data = _read_log(one.fd)
        whole = len(data) - len(data) % _RECORD.size
        for digest, number, offset, _ in _RECORD.iter_unpack(data[:whole]):
            found[digest] = StagedChunk(one.fd, number, offset)
    return found


def _read_log(folder: int) -> bytes:
    try:
        fd = os.open(LOG, os.O_RDONLY | _FLAGS, dir_fd=folder)
    except OSError:
        return b""
    with open(fd, "rb") as log:
        return log.read(MOST)
