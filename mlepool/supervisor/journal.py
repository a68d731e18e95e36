"""Output on disk, one file a job: appended here, read by everybody else by position.

A file is::

    HEAD block   what was asked for
    PROC block   which process it became
    records      the output (mlepool.wire.records); position 0 is the first of them
    END1 block   the outcome, written before the end is told to anybody
    trailer      length of the END1 block, and a magic word

A block is a tag, a length, a CRC-32 and a MessagePack payload. The file is made with
O_EXCL before the process is started: the same id can't be started twice, whoever was
killed in between (an empty file is a job of which nothing more is known).
"""

import os
import struct
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec
import xxhash

from mlepool.errors import WorkerError
from mlepool.wire.messages import Outcome
from mlepool.wire.records import (
    HEADER_SIZE,
    STDERR,
    STDOUT,
    pack_header,
    unpack_header,
)

__all__ = ["JobHead", "JobProcess", "Journal", "JournalWriter", "journal_path"]

_BLOCK = struct.Struct("<4sII")  # tag, payload length, CRC-32 of the payload
_TRAILER = struct.Struct("<I4s")
_TRAILER_MAGIC = b"MLEE"
SMALL = 4 * 1024  # bytes; a record so small may as well be cut between two frames
MAX_BLOCK = 1024 * 1024  # bytes; a longer one is a damaged file

T = TypeVar("T")


class JobHead(msgspec.Struct, frozen=True, array_like=True):
    """What was asked for. Without the environment, which may hold secrets."""

    id: str
    command: str
    cwd: str
    created: float
    boot_id: str = ""


class JobProcess(msgspec.Struct, frozen=True, array_like=True):
    """Which process it became; pid 0 if none.

    Attributes:
        born: It was started between these times, in clock ticks since boot.
        started: When, in seconds since the epoch.
    """

    pid: int
    born: tuple[int, int]
    started: float


def journal_path(folder: Path | str, job_id: str) -> str:
    """Say where a job's journal is."""
    return f"{folder}/{job_id}.journal"  # a Path would cost as much as opening it


class JournalWriter:
    """Appends to a new journal.

    Raises:
        FileExistsError: If there is a job with this id already.
    """

    def __init__(self, folder: Path, head: JobHead) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._path = journal_path(folder, head.id)
        self._fd = os.open(self._path, flags, 0o600)
        self.position = 0
        self._offsets = {STDOUT: 0, STDERR: 0}
        self._digests = {STDOUT: xxhash.xxh3_128(), STDERR: xxhash.xxh3_128()}
        self._head = head

    def begin(self, process: JobProcess) -> None:
        """Note the process; output may follow."""
        self._write([_block(b"HEAD", self._head), _block(b"PROC", process)])

    def append(self, stream: int, data: bytes, *, time: float) -> None:
        """Add one piece of output.

        Raises:
            OSError: If the disk is full; what was written of the piece is cut off.
        """
        offset = self._offsets[stream]
        header = pack_header(stream, len(data), offset, time=time)
        self._write([header, data])
        self._digests[stream].update(data)
        self._offsets[stream] = offset + len(data)
        self.position += len(header) + len(data)

    def skip(self, stream: int, count: int) -> None:
        """Leave out output that can't be written; its offsets show the gap."""
        self._offsets[stream] += count

    def complete(self, outcome: Outcome) -> Outcome:
        """Add positions and digests to an outcome."""
        digests = ",".join(self._digests[one].hexdigest() for one in (STDOUT, STDERR))
        return msgspec.structs.replace(
            outcome,
            end=self.position,
            stdout=self._offsets[STDOUT],
            stderr=self._offsets[STDERR],
            digest=f"xxh3-128:{digests}",
        )

    def finish(self, outcome: Outcome) -> None:
        """Write the end and close the file.

        Raises:
            OSError: If the disk is full; the file is closed all the same.
        """
        block = _block(b"END1", outcome)
        try:
            self._write([block, _TRAILER.pack(len(block), _TRAILER_MAGIC)])
        finally:
            os.close(self._fd)

    def discard(self) -> None:
        """Close the file and remove it: there is no such job."""
        os.close(self._fd)
        os.unlink(self._path)

    def _write(self, parts: list[bytes]) -> None:
        size = sum(map(len, parts))
        written = os.writev(self._fd, parts)
        if written != size:
            self._write_rest(b"".join(parts), written)

    def _write_rest(self, whole: bytes, written: int) -> None:
        """Go on after a short write; on failure cut the piece off again."""
        begin = os.fstat(self._fd).st_size - written
        try:
            while written < len(whole):
                written += os.write(self._fd, memoryview(whole)[written:])
        except OSError:
            os.ftruncate(self._fd, begin)
            raise


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
            self.process, self._base = self._read_block(b"PROC", after, JobProcess)
        except BaseException:
            self.close()
            raise

    def read(self, position: int, size: int) -> bytes:
        """Read output bytes; the caller knows how far it was written."""
        return os.pread(self._fd, size, self._base + position)

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
            header = unpack_header(self.read(position, HEADER_SIZE))
            if header is None:
                return position
            after = position + HEADER_SIZE + header
            if len(self.read(after - 1, 1)) < 1:
                return position  # a torn tail
            position = after

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


def _block(tag: bytes, payload: msgspec.Struct) -> bytes:
    data = msgspec.msgpack.encode(payload)
    return _BLOCK.pack(tag, len(data), zlib.crc32(data)) + data
