"""Records one job's output and end, within what its journal may take of the disk."""

import logging
import time
from pathlib import Path

from msgspec import structs

from mlepool.config import Limits
from mlepool.supervisor.files import Piece, look_at_disk
from mlepool.supervisor.journal import JobHead, JobProcess, JournalWriter
from mlepool.wire.messages import Outcome

__all__ = ["Recorder"]

LOOK_EVERY = 4 * 1024 * 1024  # bytes of output between two looks at the disk
HEAD_OF_DISK = 0.05  # the part of a disk that one job's head may take
SAY_EVERY = 60.0  # seconds between two lines in the log on what one job has lost
SHRINK_BY = 10  # a tenth is let go at each look while the disk is too full

logger = logging.getLogger("mlepool.supervisor")


class Recorder:
    """Writes a job's journal. What can't be kept is counted, and never stops the job.

    At the quota, or where less of the disk is free than should be, the head and the
    tail of the output are kept. On a full disk, or one that can't give back parts of
    files, new output is left out. Readers are told how much, where it was.

    Args:
        folder: Where journals are.
        head: What was asked for.
        limits: What the journal may take.
        disk_size: Bytes of the disk: measured once, since asking takes its time.

    Raises:
        FileExistsError: If there is a job with this id already.
        OSError: If the journal can't be made.

    Attributes:
        dropped: Bytes of output that could not be written.
        is_pressed: True once less of the disk was free than should be.
        is_saved: True once the journal has the end.
    """

    def __init__(
        self, folder: Path, head: JobHead, limits: Limits, *, disk_size: int
    ) -> None:
        self._folder = folder
        self._id = head.id
        self._limits = limits
        # Some file systems have no size to tell of.
        part = disk_size * HEAD_OF_DISK or limits.job_quota
        self._kept = int(min(limits.job_quota / 2, part))
        self._step = max(1, min(LOOK_EVERY, self._kept // 4))
        self._next_look = self._step
        self._is_over = False
        self._journal = JournalWriter(folder, _with_kept(head, self._kept))
        self._say_again = 0.0
        self.dropped = 0
        self.is_pressed = False
        self.is_saved = False

    @property
    def position(self) -> int:
        """Journal bytes written."""
        return self._journal.position

    def begin(self, process: JobProcess) -> None:
        """Note the process.

        Raises:
            OSError: If the disk is full.
        """
        self._journal.begin(process)

    def write(self, stream: int, *pieces: Piece) -> None:
        """Add output, a record for each piece."""
        if len(pieces) > 1 and sum(map(len, pieces)) > self._step:
            for one in pieces:  # so small a quota is looked at after each
                self.write(stream, one)
            return
        if self._journal.position + self.dropped >= self._next_look:
            self._look()
        if self._is_over:
            self._drop(stream, pieces, "the quota or the disk is used up")
            return
        try:
            self._append(stream, pieces)
        except OSError as exc:
            self._drop(stream, pieces, str(exc))

    def end(self, outcome: Outcome) -> Outcome:
        """Write the end, completed with positions and digests."""
        outcome = self._journal.complete(outcome)
        try:
            self._journal.finish(outcome)
            self.is_saved = True
        except OSError as exc:
            logger.error("job %s: its end can't be written: %s", self._id, exc)
        return outcome

    def save(self, outcome: Outcome) -> bool:
        """Try once more to write an end that could not be; True if it is there now."""
        try:
            self._journal.finish(outcome)
        except OSError:
            return False
        self.is_saved = True
        return True

    def release(self) -> int:
        """Give the journal's descriptor away: whoever has it closes it."""
        return self._journal.release()

    def discard(self) -> None:
        """Remove the journal: there is no such job."""
        self._journal.discard()

    def _append(self, stream: int, pieces: tuple[Piece, ...]) -> None:
        now = time.time()
        try:
            self._journal.append(stream, *pieces, time=now)
        except OSError:
            held = self._journal.held
            self._look(is_full=True)
            if self._journal.held == held:
                raise
            self._journal.append(stream, *pieces, time=now)

    def _look(self, *, is_full: bool = False) -> None:
        """See to it that neither the quota nor the disk is used up."""
        journal, limit = self._journal, self._limits.job_quota
        self._next_look = journal.position + self.dropped + self._step
        disk = look_at_disk(self._folder)
        if is_full or disk.lacks(self._limits.keep_free):
            self.is_pressed = True
            smaller = journal.held - journal.held // SHRINK_BY
            limit = min(limit, max(2 * self._kept, smaller))
        self._is_over = False
        if journal.held > limit - self._step and not journal.trim(limit - self._step):
            self._is_over = journal.held >= limit

    def _drop(self, stream: int, pieces: tuple[Piece, ...], cause: str) -> None:
        count = sum(map(len, pieces))
        self._journal.skip(stream, count)
        self.dropped += count
        if time.monotonic() >= self._say_again:
            logger.error("job %s: output is dropped: %s", self._id, cause)
            self._say_again = time.monotonic() + SAY_EVERY


def _with_kept(head: JobHead, kept: int) -> JobHead:
    return structs.replace(head, kept=kept)
