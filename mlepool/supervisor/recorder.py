"""Records one job's output and end, within what its journal may take of the disk."""

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from mlepool.config import Limits
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.files import Piece, look_at_disk
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.supervisor.notes import Notes
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
        position: Journal bytes written.
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
        self.position = 0
        self.dropped = 0
        self.is_pressed = False
        self.is_saved = False

    def begin(self, process: JobProcess) -> None:
        """Note the process.

        Raises:
            OSError: If the disk is full.
        """
        self._journal.begin(process)

    def write(self, stream: int, data: Piece) -> None:
        """Add output, as one record."""
        cause = self._make_room()
        if not cause:
            try:
                self._keep(lambda now: self._journal.append(stream, data, time=now))
            except OSError as exc:
                cause = str(exc)
        if cause:
            self._drop(stream, len(data), cause)

    def pour(self, stream: int, pipe: int, count: int, *, notes: Notes) -> None:
        """Add what a pipe holds, as one record: see :meth:`JournalWriter.pour`.

        Args:
            stream: Whose output it is.
            pipe: Its descriptor.
            count: Bytes; the pipe holds as many, and nobody else takes them.
            notes: Told of what is lost; of the rest by :meth:`tell`.

        Raises:
            OSError: If pipes can't be poured into files of this kind (EINVAL).
        """
        cause = self._make_room()
        if not cause:
            try:
                self._keep(
                    lambda now: self._journal.pour(stream, pipe, count, time=now)
                )
            except OSError as exc:
                if exc.errno == errno.EINVAL:
                    raise
                cause = str(exc)
        if cause:
            self._drop(stream, count, cause)
            # Counted first: whoever is killed here has lost nothing without a word.
            self.tell(notes)
            os.read(pipe, count)

    def recover(self, notes: Notes) -> None:
        """Go on where a drainer before this one was killed, if there was one."""
        self._journal.recover(list(notes.offsets))
        self.tell(notes)

    def tell(self, notes: Notes) -> None:
        """Note how far this has come."""
        offsets = self._journal.offsets()
        for stream, offset in offsets.items():
            notes.offsets[stream] = offset
        self.position = notes.position = self._journal.position
        notes.dropped = self.dropped
        notes.is_pressed |= self.is_pressed
        self.is_pressed = False

    def hand_over(self, notes: Notes) -> None:
        """Note all that :meth:`take_over` needs; nothing is written here after that."""
        self.tell(notes)
        for stream, digest in self._journal.digests().items():
            notes.digests[stream].value = digest.encode()
        notes.is_done = True

    def catch_up(self, notes: Notes) -> None:
        """Learn how far a drainer has come."""
        self.position, self.dropped = notes.position, notes.dropped
        self._journal.fresh.lose()
        self.is_pressed |= notes.is_pressed
        notes.is_pressed = False

    def take_over(self, notes: Notes) -> None:
        """Go on where a drainer has ended."""
        self.catch_up(notes)
        digests = {
            stream: notes.digests[stream].value.decode()
            for stream in self._journal.digests()
        }
        self._journal.take_over(notes.position, list(notes.offsets), digests)

    def take_fresh(self) -> bytes:
        """Give what was written since it was asked for last; nothing if it is much."""
        return self._journal.fresh.take()

    def fileno(self) -> int:
        """Give the journal's descriptor, which stays ours."""
        return self._journal.fileno()

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

    def _make_room(self) -> str:
        """See to the quota and the disk now and then.

        Returns:
            Why nothing can be kept now; empty if it can.
        """
        if self._journal.position + self.dropped >= self._next_look:
            self._look()
        return "the quota or the disk is used up" if self._is_over else ""

    def _keep(self, append: Callable[[float], None]) -> None:
        now = time.time()
        try:
            append(now)
        except OSError:
            held = self._journal.held
            self._look(is_full=True)
            if self._journal.held == held:
                raise
            append(now)
        self.position = self._journal.position

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

    def _drop(self, stream: int, count: int, cause: str) -> None:
        self._journal.skip(stream, count)
        self.dropped += count
        if time.monotonic() >= self._say_again:
            logger.error("job %s: output is dropped: %s", self._id, cause)
            self._say_again = time.monotonic() + SAY_EVERY


def _with_kept(head: JobHead, kept: int) -> JobHead:
    return structs.replace(head, kept=kept)
