"""Output on disk, one file a job: written here, read by everybody else by position.

A file is::

    HEAD block   what was asked for
    PROC block   which process it became
    gap          which output was let go to keep within the quota
    records      the output (mlepool.wire.records); position 0 is the first of them
    END1 block   the outcome, written before the end is told to anybody
    trailer      length of the END1 block, and a magic word

A block is a tag, a length, a CRC-32 and a MessagePack payload. The file is made with
O_EXCL before the process is started: the same id can't be started twice, whoever was
killed in between (an empty file is a job of which nothing more is known).

At the quota the head and the tail are kept. What lies between is punched out of the
file, after the gap was noted: a reader that looks at the gap after it has read knows
if what it read was still there.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import (
    GAP,
    TRAILER,
    TRAILER_MAGIC,
    Gap,
    JobHead,
    JobProcess,
    end_parts,
    journal_path,
    read_block,
    read_gap,
)
from mlepool.supervisor.files import write_whole
from mlepool.wire.messages import Outcome
from mlepool.wire.records import HEADER_SIZE, unpack_header

__all__ = ["Journal", "seal"]

SMALL = 4 * 1024  # bytes; a record so small may as well be cut between two frames


class Journal:
    """Reads a job's journal by position; many may read one file at once.

    Raises:
        LookupError: If there is no such job.
        WorkerError: If the file is damaged at its beginning.
    """

    def __init__(self, folder: Path, job_id: str) -> None:
        try:
            self._fd = os.open(journal_path(folder, job_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LookupError(f"there is no job {job_id}") from None
        try:
            self.head, after = read_block(self._fd, b"HEAD", JobHead, at=0)
            self.process, after = read_block(self._fd, b"PROC", JobProcess, at=after)
            self._base = after + GAP.size
            self.gap()
        except BaseException:
            self.close()
            raise

    def read(self, position: int, size: int) -> bytes:
        """Read output bytes; the caller knows how far it was written.

        Returns:
            Fewer bytes, or none, where the output was let go: :meth:`after_gap` says
            where it goes on.
        """
        data = os.pread(self._fd, size, self._base + position)
        if position + len(data) <= self.head.kept:
            return data
        gap = self.gap()  # looked at after reading: it was there until then
        if gap.begin <= position < gap.end:
            return b""
        if position < gap.begin:
            return data[: gap.begin - position]
        return data

    def after_gap(self, position: int) -> int:
        """Give the position itself, or that of the first record after the gap."""
        if position < self.head.kept:
            return position
        gap = self.gap()
        return gap.end if gap.begin <= position < gap.end else position

    def locate(self, position: int) -> tuple[int, int]:
        """Say where output bytes are: the descriptor of the file, and the offset."""
        return self._fd, self._base + position

    def whole_records(self, position: int, size: int) -> int:
        """Give how many of some bytes are best sent together: whole records.

        A large record that is cut is put together again with two more copies. Where
        small ones come first, or the bytes begin within one, all of them are as good.
        """
        at = 0
        while size - at >= HEADER_SIZE:
            length = unpack_header(self.read(position + at, HEADER_SIZE))
            if length is None or length < SMALL or at + HEADER_SIZE + length > size:
                break
            at += HEADER_SIZE + length
        return at or size

    def outcome(self) -> Outcome | None:
        """Read the end; None if none was written."""
        size = os.fstat(self._fd).st_size
        trailer = os.pread(self._fd, TRAILER.size, max(0, size - TRAILER.size))
        if len(trailer) < TRAILER.size:
            return None
        length, magic = TRAILER.unpack(trailer)
        at = size - TRAILER.size - length
        if magic != TRAILER_MAGIC or at < self._base:
            return None
        try:
            outcome, _ = read_block(self._fd, b"END1", Outcome, at=at)
        except WorkerError:
            return None  # output that happens to look like a trailer
        return outcome

    def measure(self) -> int:
        """Walk the records to the end of the last whole one."""
        position = 0
        while True:
            position = self.after_gap(position)
            header = unpack_header(self.read(position, HEADER_SIZE))
            if header is None:
                return position
            after = position + HEADER_SIZE + header
            if len(self.read(after - 1, 1)) < 1:
                return position  # a torn tail
            position = after

    def gap(self) -> Gap:
        """Read which output was let go.

        Raises:
            WorkerError: If the file is damaged there.
        """
        return read_gap(self._fd, self._base)

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def seal(folder: Path, job_id: str, outcome: Outcome) -> Outcome:
    """Write the end of a job that nobody holds any more; a torn tail is cut off.

    Raises:
        LookupError: If there is no such job.
        WorkerError: If the file is damaged at its beginning.
        OSError: If the disk is full.
    """
    with contextlib.closing(Journal(folder, job_id)) as journal:
        end = journal.measure()
        _, at = journal.locate(end)
    outcome = msgspec.structs.replace(outcome, end=end)
    fd = os.open(journal_path(folder, job_id), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, at)
        write_whole(fd, end_parts(outcome), at)
    finally:
        os.close(fd)
    return outcome
