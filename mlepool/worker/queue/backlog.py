"""Orders of jobs that wait, on disk: they outlive the worker process.

A file for each, written before anybody is told that the job waits, and removed once the
supervisor has it or it has ended. Environments may hold secrets: only the account may
read them, and they are in memory no longer than it takes to write or to start them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import JobHead, JobProcess, journal_path
from mlepool.supervisor.files import write_whole
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.supervisor.messages import Spawn
from mlepool.wire.messages import Outcome
from mlepool.worker.job import Job
from mlepool.worker.queue.slots import Ticket

__all__ = ["MAX_ORDER", "Backlog", "Order"]

logger = logging.getLogger("mlepool.worker")

SUFFIX = ".order"
MAX_ORDER = 1016 * 1024  # bytes; with GPUs' variables the supervisor takes it


class Order(msgspec.Struct, frozen=True, array_like=True):
    """A job that waits.

    Attributes:
        ticket: Its place in the line.
        asked: Since when, in seconds since the epoch.
        spawn: What the supervisor is to be asked for.
    """

    ticket: Ticket
    asked: float
    spawn: Spawn


_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)
_decoder = msgspec.msgpack.Decoder(Order)


class Backlog:
    """The orders in a folder, which is made when the first one comes.

    Args:
        folder: The folder; no other disk than that of the journals.
        journals: Where journals are.

    Attributes:
        size: Bytes of all.
    """

    def __init__(self, folder: Path, journals: Path) -> None:
        self._folder = folder
        self._journals = journals
        self._sizes: dict[str, int] = {}
        self.size = 0

    def add(self, order: Order) -> None:
        """Write an order.

        Raises:
            OSError: If it is too long, or the disk is full; nothing is left then.
        """
        data = msgspec.msgpack.encode(order)
        if len(data) > MAX_ORDER:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(order.ticket.id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            write_whole(fd, [data], 0)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._note(order.ticket.id, len(data))

    def read(self, job_id: str) -> Order:
        """Read an order.

        Raises:
            WorkerError: If it is not there, or damaged.
        """
        try:
            return _decoder.decode(self._path(job_id).read_bytes())
        except (OSError, *_FAULTS) as exc:
            raise WorkerError(f"its order can't be read: {exc}") from exc

    def drop(self, job_id: str) -> None:
        """Remove an order; nothing if there is none."""
        self.size -= self._sizes.pop(job_id, 0)
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as exc:
            # The next worker meets the job's journal, and does not run it again.
            logger.error("the order of job %s can't be removed: %s", job_id, exc)

    def load(self) -> Iterator[Order]:
        """Give the orders that a worker before us has left, in no order.

        One that is torn was told to nobody, unless the machine has lost its power.
        """
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                job_id = name.removesuffix(SUFFIX)
                if job_id == name:
                    (self._folder / name).unlink()  # of a note_end() that was killed
                    continue
                try:
                    order = self.read(job_id)
                except WorkerError as exc:
                    logger.error("job %s was to be run, but %s", job_id, exc)
                    self.drop(job_id)
                    continue
                self._note(job_id, self._path(job_id).stat().st_size)
                yield order

    def note_end(self, job: Job, outcome: Outcome) -> Outcome:
        """Write the journal of a job that has ended before it began.

        It is there as a whole or not at all, so that nobody runs the job later on.

        Raises:
            FileExistsError: If there is a job with this id already.
            OSError: If the disk is full.
        """
        head = JobHead(
            *(job.id, job.command, job.cwd, job.started),
            files=job.files,
            owner=job.owner,
        )
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = Path(journal_path(self._folder, job.id))
        path.unlink(missing_ok=True)
        writer = JournalWriter(self._folder, head)
        try:
            writer.begin(JobProcess(0, (0, 0), outcome.started))
            outcome = writer.complete(outcome)
            writer.finish(outcome)
            os.link(path, journal_path(self._journals, job.id))
        finally:
            writer.discard()
        return outcome

    def _note(self, job_id: str, size: int) -> None:
        self._sizes[job_id] = size
        self.size += size

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}{SUFFIX}"
