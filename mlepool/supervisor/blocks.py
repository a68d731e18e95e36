"""What stands in a journal's file besides output: its blocks, and its gap.

The format is said in :mod:`mlepool.supervisor.journal`.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from mlepool.errors import WorkerError
from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobFiles

__all__ = [
    "GAP",
    "TRAILER",
    "TRAILER_MAGIC",
    "Gap",
    "JobHead",
    "JobProcess",
    "end_parts",
    "journal_path",
    "pack_block",
    "pack_gap",
    "read_block",
    "read_gap",
]

GAP = struct.Struct("<QQI")  # begin, end, CRC-32 of both
TRAILER = struct.Struct("<I4s")  # length of the END1 block, and a magic word
TRAILER_MAGIC = b"MLEE"
BLOCK = struct.Struct("<4sII")  # tag, payload length, CRC-32 of the payload
_CRC_SIZE = 4
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


def end_parts(outcome: Outcome) -> list[bytes]:
    """Give what stands at a journal's end."""
    block = pack_block(b"END1", outcome)
    return [block, TRAILER.pack(len(block), TRAILER_MAGIC)]


def read_gap(fd: int, base: int) -> Gap:
    """Read which output was let go.

    Args:
        fd: The journal's.
        base: Where in the file its records begin.

    Raises:
        WorkerError: If the file is damaged there.
    """
    for _ in range(GAP_LOOKS):
        packed = os.pread(fd, GAP.size, base - GAP.size)
        if len(packed) == GAP.size:
            begin, end, crc = GAP.unpack(packed)
            if crc == zlib.crc32(packed[:-_CRC_SIZE]) and begin <= end:
                return Gap(begin, end)
    raise WorkerError("a journal has no whole gap")


def pack_gap(gap: Gap) -> bytes:
    """Make a gap's bytes."""
    positions = GAP.pack(*gap, 0)[:-_CRC_SIZE]
    return GAP.pack(*gap, zlib.crc32(positions))


def pack_block(tag: bytes, payload: msgspec.Struct) -> bytes:
    """Make a block's bytes."""
    data = msgspec.msgpack.encode(payload)
    return BLOCK.pack(tag, len(data), zlib.crc32(data)) + data


def read_block(fd: int, tag: bytes, kind: type[T], *, at: int) -> tuple[T, int]:
    """Read a block, where it stands in the file; give also where it ends.

    Raises:
        WorkerError: If none, or no whole one, is there.
    """
    header = os.pread(fd, BLOCK.size, at)
    if len(header) == BLOCK.size:
        found, length, crc = BLOCK.unpack(header)
        if found == tag and length <= MAX_BLOCK:
            payload = os.pread(fd, length, at + BLOCK.size)
            if len(payload) == length and zlib.crc32(payload) == crc:
                block = msgspec.msgpack.decode(payload, type=kind)
                return block, at + BLOCK.size + length
    raise WorkerError(f"a journal has no whole {tag.decode()} block")
