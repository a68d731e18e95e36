"""Which jobs are open: a small file that tells it without a look at any journal.

It is made of slots of one size. The first holds a magic word, each of the others the id
of an open job, or nothing. A job is entered before its journal is made, and leaves
after its end was written there: who was killed in between has left a job too much in
here, never one too few.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = ["Ledger"]

LEDGER_FILE = ".open"  # in the journals' folder
SLOT = 64  # bytes; no id is longer, and none lies on two pages: no half is written
FIRST = 4096 // SLOT  # slots of a new file: a disk that is full has room for these
MAGIC = b"mlepool: open jobs".ljust(SLOT, b"\0")
EMPTY = bytes(SLOT)

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
        self._next = 1
        self.found = self._read()

    def keep(self, job_ids: Collection[str]) -> None:
        """Begin anew, with these alone."""
        self._slots = {job_id: slot for slot, job_id in enumerate(job_ids, 1)}
        self._next = max(FIRST, len(job_ids) + 1)
        self._free = list(range(self._next - 1, len(job_ids), -1))
        names = b"".join(map(_name, job_ids))
        data = (MAGIC + names).ljust(self._next * SLOT, b"\0")
        try:
            size = os.pwrite(self._fd, data, 0)
        except OSError as exc:
            # Nobody is to believe it: who comes next reads each journal.
            logger.error("which jobs are open can't be written down: %s", exc)
            size = 0
        os.ftruncate(self._fd, size)

    @contextlib.contextmanager
    def enter(self, job_id: str) -> Iterator[None]:
        """Note that a job is open; that it is not, if what is done within fails.

        Raises:
            OSError: If the disk is full.
        """
        was_open = job_id in self._slots
        if not was_open:
            self._add(job_id)
        try:
            yield
        except BaseException:
            if not was_open:
                self.leave(job_id)
            raise

    def leave(self, job_id: str) -> None:
        """Note that a job is open no more; nothing if it was not."""
        slot = self._slots.pop(job_id, None)
        if slot is not None:
            # One that stays is found to have an end by the next who reads this.
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, EMPTY, slot * SLOT)
                self._free.append(slot)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _add(self, job_id: str) -> None:
        slot = self._free[-1] if self._free else self._next
        os.pwrite(self._fd, _name(job_id), slot * SLOT)
        self._slots[job_id] = slot
        if self._free:
            self._free.pop()
        else:
            self._next += 1

    def _read(self) -> list[str] | None:
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        if data[:SLOT] != MAGIC:
            return None
        slots = [data[at : at + SLOT] for at in range(SLOT, len(data), SLOT)]
        names = [slot.rstrip(b"\0") for slot in slots]
        return [name.decode(errors="replace") for name in names if name]


def _name(job_id: str) -> bytes:
    return job_id.encode().ljust(SLOT, b"\0")
