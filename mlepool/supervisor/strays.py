"""Jobs of a supervisor that was killed: found by who they are, reported as lost.

Their output had nowhere to go from then on, and their exit status was told to nobody.
A process that still runs can be stopped all the same.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import JobHead, JobProcess
from mlepool.supervisor.journal import Journal, seal
from mlepool.supervisor.processes import (
    Process,
    boot_id,
    identify,
    relatives,
    stamp_of,
)
from mlepool.supervisor.stop import Stopping
from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobInfo

__all__ = ["Stray", "all_jobs", "find_strays", "recall_stray"]

MAX_NAMED = 5  # processes of a job that its reason names


class Stray:
    """A job whose supervisor was killed, and whose processes may still run.

    Args:
        head: Of its journal.
        process: What it was begun as.
        outcome: Its end, as far as one is written.
        stamp: What its processes are known by.

    Attributes:
        outcome: That it is LOST; None before that is written.
        pipes: None of ours: they ended with the supervisor before us.
    """

    def __init__(
        self,
        head: JobHead,
        process: JobProcess,
        outcome: Outcome | None,
        *,
        stamp: dict[bytes, bytes],
    ) -> None:
        self.id = head.id
        self.outcome = outcome
        self.pipes: dict[int, int] = {}
        self.stopping: Stopping | None = None
        self._head = head
        self._process = process
        self._stamp = stamp

    @property
    def is_of_this_boot(self) -> bool:
        """False if its processes ended with the machine, whoever has their pids."""
        return self._head.boot_id == boot_id()

    @property
    def is_elsewhere(self) -> bool:
        """True of a job inside the worker: it may run, and its journal grow."""
        return self._head.streams

    def info(self) -> JobInfo:
        """Describe the job to a worker."""
        assert self.outcome is not None
        head, process = self._head, self._process
        return JobInfo(
            head.id,
            head.command,
            process.pid,
            process.started,
            self.outcome.end,
            self.outcome,
            head.cwd,
            files=head.files,
            owner=head.owner,
        )

    def leader(self) -> int:
        """Give the pid of its first process; 0 unless that is proven to live."""
        found = identify(self._process.pid) if self.is_of_this_boot else None
        if found is None or found.is_zombie or not _was_born(found, self._process):
            return 0
        return found.pid

    def living(self, _: Callable[[], list[int]]) -> list[Process]:
        """Find its processes that still run: its session's, or with its stamp."""
        return relatives(self._stamp, self.leader()) if self.is_of_this_boot else []

    def lost(self, reason: str) -> Outcome:
        """Say that how it ends is not known."""
        return Outcome(
            "LOST", started=self._process.started, ended=time.time(), reason=reason
        )


def find_strays(folder: Path, job_ids: Iterable[str]) -> list[Stray]:
    """Find the jobs without an end, and write it: they are LOST.

    Args:
        folder: Where journals are; none of them is being written.
        job_ids: Where to look; an id without a journal is passed over.

    Returns:
        Those that still run, also if their end was written by one before us.
    """
    return [stray for job_id in job_ids for stray in _look(folder, job_id)]


def recall_stray(folder: Path, job_id: str) -> Stray | None:
    """Find a job that was LOST earlier; None unless it still runs."""
    with contextlib.suppress(LookupError, WorkerError, OSError):
        stray = _open(folder, job_id)
        if _is_lost(stray) and stray.living(list):
            return stray
    return None


def all_jobs(folder: Path) -> Iterator[str]:
    """Give the ids of all jobs that have a journal."""
    for name in os.listdir(folder):
        job_id, dot, suffix = name.rpartition(".")
        if dot and suffix == "journal":
            yield job_id


def _look(folder: Path, job_id: str) -> Iterator[Stray]:
    with contextlib.suppress(LookupError, WorkerError, OSError):
        stray = _open(folder, job_id)
        if stray.is_elsewhere:
            return
        if stray.outcome is not None:
            # Not by their stamps: there may be very many journals of the past.
            if _is_lost(stray) and stray.leader():
                yield stray
        elif living := stray.living(list):
            pids = ", ".join(str(one.pid) for one in living[:MAX_NAMED])
            reason = f"its supervisor was killed; it still runs as pid {pids}"
            stray.outcome = seal(folder, job_id, stray.lost(reason))
            yield stray
        else:
            reason = "its supervisor was killed, or the machine went down"
            seal(folder, job_id, stray.lost(reason))


def _open(folder: Path, job_id: str) -> Stray:
    stamp = stamp_of(job_id, folder.parent)
    with contextlib.closing(Journal(folder, job_id)) as journal:
        return Stray(journal.head, journal.process, journal.outcome(), stamp=stamp)


def _is_lost(stray: Stray) -> bool:
    return stray.outcome is not None and stray.outcome.status == "LOST"


def _was_born(found: Process, noted: JobProcess) -> bool:
    """Tell if a process is the one that was noted, not one with its old number."""
    return noted.born[0] <= found.start_ticks <= noted.born[1]
