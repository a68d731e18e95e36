"""Which jobs are open: a small file that tells it without a look at any journal.

It is made of slots of one size. The first holds a magic word, each of the others the id
of an open job, or nothing. A job is entered before its journal is made, and leaves
after its end was written there: who was killed in between has left a job too much in
here, never one too few. So are a few that have just left, since the next job takes a
slot as it is: emptying it first would be a write more for each.
"""

import contextlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["Ledger"]

LEDGER_FILE = ".open"  # in the journals' folder
SLOT = 64  # bytes; no id is longer, and none lies on two pages: no half is written
FIRST = 4096 // SLOT  # slots of a new file: a disk that is full has room for these
MAGIC = b"mlepool: open jobs".ljust(SLOT, b"\0")
EMPTY = bytes(SLOT)
MAX_LEFT = 64  # that have left and are in it: so many journals are soon looked at

logger = logging.getLogger("mlepool.supervisor")


class Ledger:
    """The ids of the jobs that have no end yet, or whose processes may still run.

    Args:
        folder: Where journals are.

    Raises:
        OSError: If the file can't be made or read.

    Attributes:
        found: The ids that were in it at first; None if it was not kept so far.
    """

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(folder / LEDGER_FILE, flags, 0o600)
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._left: list[int] = []  # free, too, but not empty
        self._next = 1
        self.found = self._read()

    def keep(self, job_ids: Collection[str]) -> None:
        """Begin anew, with these alone."""
        self._slots = {job_id: slot for slot, job_id in enumerate(job_ids, 1)}
        self._next = max(FIRST, len(job_ids) + 1)
        self._free = list(range(self._next - 1, len(job_ids), -1))
        self._left = []
        names = b"".join(map(_name, job_ids))
        data = (MAGIC + names).ljust(self._next * SLOT, b"\0")
        try:
            size = os.pwrite(self._fd, data, 0)
        except OSError as exc:
            # Nobody is to believe it: who comes next reads each journal.
            logger.error("which jobs are open can't be written down: %s", exc)
            size = 0
        os.ftruncate(self._fd, size)

    def enter(self, job_id: str) -> bool:
        """Note that a job is open; False if it is already.

        Raises:
            OSError: If the disk is full.
        """
        if job_id in self._slots:
            return False
        free = self._left or self._free
        slot = free[-1] if free else self._next
        os.pwrite(self._fd, _name(job_id), slot * SLOT)
        self._slots[job_id] = slot
        if free:
            free.pop()
        else:
            self._next += 1
        return True

    def leave(self, job_id: str) -> None:
        """Note that a job is open no more; nothing if it was not."""
        slot = self._slots.pop(job_id, None)
        if slot is None:
            return
        if len(self._left) < MAX_LEFT:
            self._left.append(slot)
        else:
            self._empty(slot)

    def close(self) -> None:
        """Close the file; only who is open is in it then."""
        while self._left:
            self._empty(self._left.pop())
        os.close(self._fd)

    def _empty(self, slot: int) -> None:
        # One that stays is found to have an end by the next who reads this.
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, EMPTY, slot * SLOT)
            self._free.append(slot)

    def _read(self) -> list[str] | None:
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        if data[:SLOT] != MAGIC:
            return None
        slots = [data[at : at + SLOT] for at in range(SLOT, len(data), SLOT)]
        names = [slot.rstrip(b"\0") for slot in slots]
        return [name.decode(errors="replace") for name in names if name]


def _name(job_id: str) -> bytes:
    return job_id.encode().ljust(SLOT, b"\0")
