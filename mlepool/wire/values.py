"""What commands return, as typed values: data on the wire, attributes in Python."""

import time
from typing import Any

import msgspec

from mlepool.wire.answers import FileInfo, Listing, OsInfo
from mlepool.wire.messages import Outcome

__all__ = [
    "VALUE_TYPES",
    "InputAck",
    "JobFiles",
    "JobInfo",
    "Progress",
    "Signalled",
    "StopReport",
    "Survivor",
    "SyncProblem",
    "SyncProgress",
    "SyncSummary",
]


class JobFiles(msgspec.Struct, frozen=True, array_like=True):
    """What a job has to do with trees of files.

    Attributes:
        tree: Digest of the tree that was synced for it, and that it was run in: its
            code, for ever; empty if there was none.
        collect: Patterns of what is to be brought back at its end, as lines of a
            ``.gitignore`` in its working directory.
    """

    tree: str = ""
    collect: tuple[str, ...] = ()


class JobInfo(msgspec.Struct, frozen=True, array_like=True):
    """A job on a worker.

    Attributes:
        id: The job's id, for ``attach`` and ``stop``.
        command: The command, for people.
        pid: Its first process; 0 if none could be started, or it was over at once.
        started: Seconds since the epoch.
        position: Journal bytes written so far.
        outcome: How it ended; None while it runs.
        cwd: Its working directory.
        dropped: Bytes of output that could not be kept, of a job that runs.
        orphan_timeout: Seconds that nobody may read it until it is stopped.
        has_terminal: True if it runs at a terminal, and has not ended.
        files: The tree that it runs in, and what is to be brought back.
        streams: True if it is a job inside the worker: a command of its own.
        owner: Who started it: the name of a token; ``"local"`` for the worker's
            account on its own machine, empty if that is not known.
        place: Where in line it waits to begin, counted from 1; 0 if it does not.
            ``started`` is the time that it was asked for then.
        priority: Of those that wait, higher ones begin first.
        gpus: The numbers of the GPUs that it has been given, or had when it ended.
    """

    id: str
    command: str
    pid: int
    started: float
    position: int = 0
    outcome: Outcome | None = None
    cwd: str = ""
    dropped: int = 0
    orphan_timeout: float | None = None
    has_terminal: bool = False
    files: JobFiles = JobFiles()
    streams: bool = False
    owner: str = ""
    place: int = 0
    priority: int = 0
    gpus: tuple[int, ...] = ()

    @property
    def status(self) -> str:
        """PENDING while it waits in line, RUNNING, or the final status."""
        if self.outcome is not None:
            return self.outcome.status
        return "PENDING" if self.place else "RUNNING"

    @property
    def duration(self) -> float:
        """Seconds from its start to its end, or to now; that it has waited in line."""
        end = self.outcome.ended if self.outcome is not None else time.time()
        return max(0.0, end - self.started)

    def __repr__(self) -> str:
        text = self.command if len(self.command) <= 60 else f"{self.command[:57]}..."
        return f"<Job {self.id} {self.status} {self.duration:.1f} s: {text!r}>"

    __str__ = __repr__


class Survivor(msgspec.Struct, frozen=True, array_like=True):
    """A process that a stop did not end, and why."""

    pid: int
    command: str
    cause: str = ""


class Signalled(msgspec.Struct, frozen=True, array_like=True):
    """One signal that was sent to one process.

    Attributes:
        after: Seconds since the stop began.
    """

    signal: str
    pid: int
    command: str
    after: float = 0.0


class StopReport(msgspec.Struct, frozen=True, array_like=True):
    """The proof that a job was stopped, or what was not.

    Attributes:
        job_id: The job.
        status: The job's status after the stop.
        signalled: Every signal sent, in order; empty if it had ended already.
        survivors: Processes still alive at the end; empty means all are dead.
        seconds: How long it took until the last process was gone.
        was_waiting: True if it waited in line: it has never run.
    """

    job_id: str
    status: str
    signalled: tuple[Signalled, ...] = ()
    survivors: tuple[Survivor, ...] = ()
    seconds: float = 0.0
    was_waiting: bool = False

    @property
    def complete(self) -> bool:
        """True if no process of the job is left."""
        return not self.survivors

    def __repr__(self) -> str:
        signals = ", ".join(dict.fromkeys(one.signal for one in self.signalled))
        count = len({one.pid for one in self.signalled})
        noun = "process" if count == 1 else "processes"
        sent = f"{signals} to {count} {noun}" if count else "nothing to signal"
        left = ", ".join(f"{one.pid} {one.command[:60]!r}" for one in self.survivors)
        rest = f"still alive: {left}" if left else "nothing is left"
        took = f"{self.seconds:.1f} s"
        return f"<StopReport {self.job_id}: {self.status}; {sent}; {rest}; {took}>"

    __str__ = __repr__


class InputAck(msgspec.Struct, frozen=True, array_like=True):
    """How far a process has taken its stdin.

    Attributes:
        offset: Bytes taken in all.
        closed: True if its stdin is closed.
    """

    offset: int
    closed: bool = False


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """How far a command has come, as it says itself: ``ctx.progress(...)``.

    Attributes:
        percent: 0 to 100; None if it does not say.
        message: What it does now.
        step: The step that it is at, counted from 1; ``total`` how many there are.
    """

    percent: float | None = None
    message: str = ""
    step: int | None = None
    total: int | None = None


class SyncProgress(msgspec.Struct, frozen=True, array_like=True):
    """How far a sync has come.

    Attributes:
        files: Files that have their new content, or needed none.
        files_total: Files to be looked at one by one; 0 before that is known.
        bytes: Bytes of content that are there, sent or found.
        bytes_total: Bytes of all those files.
        rate: Bytes a second, of late.
        remaining: Seconds to go at that rate; None if there is none.
        waiting: Who else syncs into the tree, while that is waited for; else empty.
    """

    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    rate: float = 0.0
    remaining: float | None = None
    waiting: str = ""


class SyncProblem(msgspec.Struct, frozen=True, array_like=True):
    """A file that could not be synced, and why.

    Attributes:
        path: Its path in the tree; undecodable bytes as in :func:`os.fsdecode`.
        text: Why.
    """

    path: str
    text: str


class SyncSummary(msgspec.Struct, frozen=True, array_like=True):
    """What a sync has done; of a dry run, what it would do.

    Attributes:
        sent: Files that got new content.
        skipped: Files and links that were the same already.
        deleted: Things that went to the trash, whole folders counted as one.
        bytes_total: Bytes of the files that were looked at one by one.
        bytes_sent: Bytes of content that went over the link, as packed there.
        seconds: How long it took.
        digest: Name of the tree's content, as it was sent: the same for the same
            paths, contents, links and executable files. Empty where that is not
            known: of a dry run, and where there were problems.
        problems: What could not be synced; all else was.
    """

    sent: int = 0
    skipped: int = 0
    deleted: int = 0
    bytes_total: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    digest: str = ""
    problems: tuple[SyncProblem, ...] = ()


# Names in a command's return annotation that a client turns back into these types.
VALUE_TYPES: dict[str, Any] = {
    "StopReport": StopReport,
    "InputAck": InputAck,
    "JobInfo": JobInfo,
    "list[JobInfo]": list[JobInfo],
    "FileInfo": FileInfo,
    "Listing": Listing,
    "OsInfo": OsInfo,
}
