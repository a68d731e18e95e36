"""Writes a job's journal; its format is said in :mod:`mlepool.supervisor.journal`."""

import functools
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import xxhash

from mlepool.supervisor.blocks import (
    GAP,
    Gap,
    JobHead,
    JobProcess,
    end_parts,
    journal_path,
    pack_block,
    pack_gap,
    read_gap,
)
from mlepool.supervisor.files import Piece, punch, punches, write_whole
from mlepool.supervisor.fresh import Fresh
from mlepool.wire.messages import Outcome
from mlepool.wire.records import (
    HEADER_SIZE,
    STDERR,
    STDOUT,
    YIELDED,
    pack_header,
    parse_header,
)

__all__ = ["JournalWriter"]

NO_GAP = Gap()
PACKED_NO_GAP = pack_gap(NO_GAP)


class JournalWriter:
    """Writes a new journal.

    Args:
        folder: Where journals are.
        head: What was asked for.

    Raises:
        FileExistsError: If there is a job with this id already.

    Attributes:
        position: Journal bytes written.
        fresh: The latest of them.
    """

    def __init__(self, folder: Path, head: JobHead) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._path = journal_path(folder, head.id)
        self._fd = os.open(self._path, flags, 0o600)
        self.position = 0
        self.fresh = Fresh()
        self._size = 0
        streams = (STDOUT, STDERR, YIELDED) if head.streams else (STDOUT, STDERR)
        self._offsets = dict.fromkeys(streams, 0)
        self._digests = {stream: xxhash.xxh3_128() for stream in streams}
        self._known: dict[int, str] | None = None  # digests, in place of those
        self._head = head
        self._base = 0
        self._gap = NO_GAP
        self._marks: deque[int] = deque()

    @property
    def held(self) -> int:
        """Journal bytes that are on disk."""
        return self.position - (self._gap.end - self._gap.begin)

    def begin(self, process: JobProcess) -> None:
        """Note the process; output may follow."""
        head, proc = pack_block(b"HEAD", self._head), pack_block(b"PROC", process)
        self._write([head, proc, PACKED_NO_GAP])
        self._base = self._size

    def append(self, stream: int, data: Piece, *, time: float) -> None:
        """Add output, as one record.

        Raises:
            OSError: If the disk is full; nothing of it is written then.
        """
        header = pack_header(stream, len(data), self._offsets[stream], time=time)
        self._write([header, data])
        self._count(stream, data)
        self.fresh.add(header, data)

    def pour(self, stream: int, pipe: int, count: int, *, time: float) -> None:
        """Add what a pipe holds, as one record.

        A byte leaves the pipe by the system call that puts it into the file, so whoever
        is killed here has taken what the file holds, and nothing else: :meth:`recover`.

        Args:
            stream: Whose output it is.
            pipe: Its descriptor.
            count: Bytes; the pipe holds as many.
            time: When they came.

        Raises:
            OSError: If there is no room for any of it. Where there is for some, that is
                a record, and the rest is still in the pipe.
        """
        header = functools.partial(pack_header, stream, offset=self._offsets[stream])
        begin, moved = self._size, 0
        at = write_whole(self._fd, [header(count, time=time)], begin)
        try:
            while moved < count:
                moved += os.splice(pipe, self._fd, count - moved, offset_dst=at + moved)
        except OSError:
            if not moved:
                os.ftruncate(self._fd, begin)
                raise
            os.pwrite(self._fd, header(moved, time=time), begin)
        self._size = at + moved
        self._count(stream, os.pread(self._fd, moved, at))

    def recover(self, offsets: Sequence[int]) -> None:
        """Go on behind what was poured by a process like this one that was killed.

        Args:
            offsets: At least so many bytes of each stream were taken.
        """
        self._gap = read_gap(self._fd, self._base)
        while self._recover_record():
            pass
        os.ftruncate(self._fd, self._size)
        for stream, offset in self._offsets.items():
            self._offsets[stream] = max(offset, offsets[stream])

    def _recover_record(self) -> bool:
        if self._gap.begin <= self.position < self._gap.end:
            self._size += self._gap.end - self.position
            self.position = self._gap.end
            self._known = dict.fromkeys(self._digests, "")
        record = parse_header(os.pread(self._fd, HEADER_SIZE, self._size))
        at = self._size + HEADER_SIZE
        data = os.pread(self._fd, record.length, at) if record else b""
        if record is None or not data:
            return False
        header = record._replace(length=len(data))  # of a torn one: what was taken
        os.pwrite(self._fd, pack_header(*header[:3], time=record.time), self._size)
        self._size = at + len(data)
        self._offsets[record.stream] = record.offset
        self._count(record.stream, data)
        return True

    def _count(self, stream: int, data: Piece) -> None:
        """Count a record that was written."""
        self._digests[stream].update(data)
        self.position += HEADER_SIZE + len(data)
        self._offsets[stream] += len(data)
        if self.position >= self._head.kept:
            self._mark()

    def offsets(self) -> dict[int, int]:
        """Give how many bytes each stream has had."""
        return self._offsets

    def digests(self) -> dict[int, str]:
        """Give the digest of each stream so far; empty if it is not known."""
        if self._known is not None:
            return self._known
        return {stream: one.hexdigest() for stream, one in self._digests.items()}

    def take_over(
        self, position: int, offsets: Sequence[int], digests: dict[int, str]
    ) -> None:
        """Go on where another process has ended: no output follows."""
        self._size = self._base + position
        self.position, self._known = position, digests
        for stream in self._offsets:
            self._offsets[stream] = offsets[stream]

    def fileno(self) -> int:
        """Give the descriptor, which stays ours."""
        return self._fd

    def skip(self, stream: int, count: int) -> None:
        """Leave out output that can't be written; its offsets show the gap."""
        self._offsets[stream] += count

    def trim(self, limit: int) -> bool:
        """Let go of output in the middle, the oldest first, to hold no more than that.

        Returns:
            False if the file system can't do so.
        """
        if not punches(self._fd):
            return False
        begin, end = self._gap
        while self._marks and self.position - (end - begin) > limit:
            end = self._marks.popleft()
            begin = begin or end
        if end > self._gap.end and end > begin:
            self._gap = Gap(begin, end)
            place = self._base - GAP.size
            os.pwrite(self._fd, pack_gap(self._gap), place)
            punch(self._fd, self._base + begin, end - begin)
        return True

    def complete(self, outcome: Outcome) -> Outcome:
        """Add positions and digests to an outcome."""
        digests = self.digests().values()
        return msgspec.structs.replace(
            outcome,
            end=self.position,
            stdout=self._offsets[STDOUT],
            stderr=self._offsets[STDERR],
            digest=f"xxh3-128:{','.join(digests)}" if all(digests) else "",
            yielded=self._offsets.get(YIELDED, 0),
        )

    def finish(self, outcome: Outcome) -> None:
        """Write the end; the file stays open, for :meth:`release`.

        Raises:
            OSError: If the disk is full; it can be tried again.
        """
        self._write(end_parts(outcome))

    def release(self) -> int:
        """Give the descriptor away: whoever has it closes it."""
        fd, self._fd = self._fd, -1
        return fd

    def discard(self) -> None:
        """Close the file and remove it: there is no such job."""
        os.close(self.release())
        os.unlink(self._path)

    def _mark(self) -> None:
        """Note where a gap may begin or end: a bounded number of places.

        What is held is bounded by the quota or the disk, and so in units of the head.
        """
        least = self._head.kept // 64
        if not self._marks or self.position - self._marks[-1] >= least:
            self._marks.append(self.position)

    def _write(self, parts: Sequence[Piece]) -> None:
        self._size = write_whole(self._fd, parts, self._size)
