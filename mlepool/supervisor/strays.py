"""Jobs of a supervisor that was killed: found by who they are, reported as lost.

Their output had nowhere to go from then on, and their exit status was told to nobody.
A process that still runs can be stopped all the same.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlepool.errors import WorkerError
from mlepool.supervisor.journal import JobHead, JobProcess, Journal, seal
from mlepool.supervisor.processes import Process, boot_id, identify, relatives
from mlepool.supervisor.stop import Stopping
from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobInfo

__all__ = ["Stray", "find_strays"]


class Stray:
    """A job that is LOST, and whose processes may still run.

    Attributes:
        pipes: None of ours: they ended with the supervisor before us.
    """

    def __init__(self, head: JobHead, process: JobProcess, outcome: Outcome) -> None:
        self.id = head.id
        self.outcome: Outcome | None = outcome
        self.pipes: dict[int, int] = {}
        self.stopping: Stopping | None = None
        self._head = head
        self._process = process

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
        )

    def living(self, _: Callable[[], list[int]]) -> list[Process]:
        """Find its processes that still run: its session's, or with its stamp."""
        leader = identify(self._process.pid)
        proven = leader is not None and _was_born(leader, self._process)
        return relatives(self.id, self._process.pid if proven else 0)


def find_strays(folder: Path) -> list[Stray]:
    """Find the jobs without an end, and write it: they are LOST.

    Args:
        folder: Where journals are; none of them is being written.
    """
    return [stray for name in _unfinished(folder) for stray in _look(folder, name)]


def _unfinished(folder: Path) -> Iterator[str]:
    for name in os.listdir(folder):
        job_id, dot, suffix = name.rpartition(".")
        if dot and suffix == "journal":
            yield job_id


def _look(folder: Path, job_id: str) -> Iterator[Stray]:
    with contextlib.suppress(LookupError, WorkerError, OSError):
        with contextlib.closing(Journal(folder, job_id)) as journal:
            head, process = journal.head, journal.process
            if journal.outcome() is not None:
                return
        stray = Stray(head, process, _lost(process, "its supervisor was killed"))
        if head.boot_id == boot_id() and stray.living(list):
            reason = f"its supervisor was killed; it still runs as pid {process.pid}"
            stray.outcome = seal(folder, job_id, _lost(process, reason))
            yield stray
            return
        reason = "its supervisor was killed, or the machine went down"
        seal(folder, job_id, _lost(process, reason))


def _lost(process: JobProcess, reason: str) -> Outcome:
    return Outcome("LOST", started=process.started, ended=time.time(), reason=reason)


def _was_born(found: Process, noted: JobProcess) -> bool:
    """Tell if a process is the one that was noted, not one with its old number."""
    return noted.born[0] <= found.start_ticks <= noted.born[1]
