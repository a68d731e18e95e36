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
import functools
import os
import struct
import zlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import xxhash

from mlepool.errors import WorkerError
from mlepool.supervisor.files import Piece, punch, punches, write_whole
from mlepool.wire.messages import Outcome
from mlepool.wire.records import (
    HEADER_SIZE,
    STDERR,
    STDOUT,
    YIELDED,
    pack_header,
    parse_header,
    unpack_header,
)
from mlepool.wire.values import JobFiles

__all__ = [
    "Gap",
    "JobHead",
    "JobProcess",
    "Journal",
    "JournalWriter",
    "journal_path",
    "seal",
]

_BLOCK = struct.Struct("<4sII")  # tag, payload length, CRC-32 of the payload
_GAP = struct.Struct("<QQI")  # begin, end, CRC-32 of both
_CRC_SIZE = 4
_TRAILER = struct.Struct("<I4s")
_TRAILER_MAGIC = b"MLEE"
SMALL = 4 * 1024  # bytes; a record so small may as well be cut between two frames
GAP_LOOKS = 100  # reads of a gap until it is damaged, and not being written just now
MAX_BLOCK = 1024 * 1024  # bytes; a longer one is a damaged file

T = TypeVar("T")


class JobHead(msgspec.Struct, frozen=True, array_like=True):
    """What was asked for. Without the environment, which may hold secrets.

    Attributes:
        boot_id: The boot of the machine that the process belongs to.
        kept: Output before this position is never let go.
        files: The tree that it runs in, and what is to be brought back.
        owner: Who asked for it: the name of a token of the worker's.
        streams: True of a command inside the worker: it is no process, the worker
            writes its journal, and it ends with the worker.
    """

    id: str
    command: str
    cwd: str
    created: float
    boot_id: str = ""
    kept: int = 1 << 62
    files: JobFiles = JobFiles()
    owner: str = ""
    streams: bool = False


class JobProcess(msgspec.Struct, frozen=True, array_like=True):
    """Which process it became; pid 0 if none.

    Attributes:
        born: It was started between these times, in clock ticks since boot.
        started: When, in seconds since the epoch.
    """

    pid: int
    born: tuple[int, int]
    started: float


class Gap(NamedTuple):
    """Output that was let go: journal positions; both 0 for none."""

    begin: int = 0
    end: int = 0


def journal_path(folder: Path | str, job_id: str) -> str:
    """Say where a job's journal is."""
    return f"{folder}/{job_id}.journal"  # a Path would cost as much as opening it


class JournalWriter:
    """Writes a new journal.

    Args:
        folder: Where journals are.
        head: What was asked for.

    Raises:
        FileExistsError: If there is a job with this id already.
    """

    def __init__(self, folder: Path, head: JobHead) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._path = journal_path(folder, head.id)
        self._fd = os.open(self._path, flags, 0o600)
        self.position = 0
        self._size = 0
        streams = (STDOUT, STDERR, YIELDED) if head.streams else (STDOUT, STDERR)
        self._offsets = dict.fromkeys(streams, 0)
        self._digests = {stream: xxhash.xxh3_128() for stream in streams}
        self._known: dict[int, str] | None = None  # digests, in place of those
        self._head = head
        self._base = 0
        self._gap = Gap()
        self._marks: deque[int] = deque()

    @property
    def held(self) -> int:
        """Journal bytes that are on disk."""
        return self.position - (self._gap.end - self._gap.begin)

    def begin(self, process: JobProcess) -> None:
        """Note the process; output may follow."""
        head, proc = _block(b"HEAD", self._head), _block(b"PROC", process)
        self._write([head, proc, _pack_gap(self._gap)])
        self._base = self._size

    def append(self, stream: int, data: Piece, *, time: float) -> None:
        """Add output, as one record.

        Raises:
            OSError: If the disk is full; nothing of it is written then.
        """
        header = pack_header(stream, len(data), self._offsets[stream], time=time)
        self._write([header, data])
        self._count(stream, data)

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
        self._gap = _read_gap(self._fd, self._base)
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
            place = self._base - _GAP.size
            os.pwrite(self._fd, _pack_gap(self._gap), place)
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
        self._write(_end(outcome))

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
            self.head, after = self._read_block(b"HEAD", 0, JobHead)
            self.process, after = self._read_block(b"PROC", after, JobProcess)
            self._base = after + _GAP.size
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
        small ones come, or the bytes begin within one, all of them are as good.
        """
        at = 0
        while size - at >= HEADER_SIZE:
            length = unpack_header(self.read(position + at, HEADER_SIZE))
            if length is None or length < SMALL:
                return size
            if at + HEADER_SIZE + length > size:
                break
            at += HEADER_SIZE + length
        return at or size

    def outcome(self) -> Outcome | None:
        """Read the end; None if none was written."""
        size = os.fstat(self._fd).st_size
        trailer = os.pread(self._fd, _TRAILER.size, max(0, size - _TRAILER.size))
        if len(trailer) < _TRAILER.size:
            return None
        length, magic = _TRAILER.unpack(trailer)
        at = size - _TRAILER.size - length
        if magic != _TRAILER_MAGIC or at < self._base:
            return None
        try:
            outcome, _ = self._read_block(b"END1", at, Outcome)
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
        return _read_gap(self._fd, self._base)

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_block(self, tag: bytes, at: int, kind: type[T]) -> tuple[T, int]:
        header = os.pread(self._fd, _BLOCK.size, at)
        if len(header) == _BLOCK.size:
            found, length, crc = _BLOCK.unpack(header)
            if found == tag and length <= MAX_BLOCK:
                payload = os.pread(self._fd, length, at + _BLOCK.size)
                if len(payload) == length and zlib.crc32(payload) == crc:
                    block = msgspec.msgpack.decode(payload, type=kind)
                    return block, at + _BLOCK.size + length
        raise WorkerError(f"a journal has no whole {tag.decode()} block")


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
        write_whole(fd, _end(outcome), at)
    finally:
        os.close(fd)
    return outcome


def _end(outcome: Outcome) -> list[bytes]:
    block = _block(b"END1", outcome)
    return [block, _TRAILER.pack(len(block), _TRAILER_MAGIC)]


def _read_gap(fd: int, base: int) -> Gap:
    for _ in range(GAP_LOOKS):
        packed = os.pread(fd, _GAP.size, base - _GAP.size)
        if len(packed) == _GAP.size:
            begin, end, crc = _GAP.unpack(packed)
            if crc == zlib.crc32(packed[:-_CRC_SIZE]) and begin <= end:
                return Gap(begin, end)
    raise WorkerError("a journal has no whole gap")


def _pack_gap(gap: Gap) -> bytes:
    positions = _GAP.pack(*gap, 0)[:-_CRC_SIZE]
    return _GAP.pack(*gap, zlib.crc32(positions))


def _block(tag: bytes, payload: msgspec.Struct) -> bytes:
    data = msgspec.msgpack.encode(payload)
    return _BLOCK.pack(tag, len(data), zlib.crc32(data)) + data
