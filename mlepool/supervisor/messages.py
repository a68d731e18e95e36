"""What a worker and its supervisor say to each other over their unix socket.

A worker of another version than the supervisor's must understand it, so the rules are
those of the wire: arrays with a tag, fields only ever appended, with a default. What
a worker may ask for is checked as it is decoded: nothing else gets to the jobs.
"""

from typing import Annotated

import msgspec

from mlepool.config import Limits
from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import Failure, Outcome
from mlepool.wire.values import JobFiles, JobInfo, StopReport

__all__ = [
    "JOBS_FOLDER",
    "LOCK_FILE",
    "READY",
    "SOCKET_FILE",
    "Attend",
    "Fed",
    "Feed",
    "Finish",
    "FromSupervisor",
    "Greet",
    "Greeting",
    "Grown",
    "JobEnded",
    "Pressed",
    "Resize",
    "Spawn",
    "Spawned",
    "Stop",
    "Stopped",
    "ToSupervisor",
    "common_version",
    "decode_from_supervisor",
    "decode_to_supervisor",
]

# Versions of these messages that are spoken here. A supervisor may be older than its
# worker, by as many releases as a job takes: it is asked for no more than it knows.
OLDEST_VERSION = 1
VERSION = 1

# Where they meet, in the worker's state folder.
SOCKET_FILE = "supervisor.sock"
LOCK_FILE = "supervisor.lock"
JOBS_FOLDER = "jobs"
READY = b"ready\n"  # what a supervisor writes to stdout once its socket listens

JobId = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{1,64}\Z")]  # a file's name
Words = Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]  # not NaN either
Cells = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]  # the kernel has 16 bits


class Greet(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A worker says which versions it speaks.

    Attributes:
        environment: What processes get, besides what each order sets.
        limits: For the jobs that are started from now on.
    """

    oldest: int = OLDEST_VERSION
    newest: int = VERSION
    environment: dict[bytes, bytes] = {}
    limits: Limits = Limits()


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Start a process.

    Attributes:
        argv: The program and its arguments.
        display: The command, for people.
        env: Variables on top of the worker's environment.
        stdin: True for a pipe, False for nothing.
        timeout: Seconds until it is stopped; None for never.
        is_awaited: True if somebody waits for the news that it has started; else it
            comes a little later, and not at all for a command that has ended by then.
        orphan_timeout: Seconds that nobody may read it until it is stopped; None for
            any time.
        terminal: Rows and columns of the terminal that it gets for stdin, stdout and
            stderr; None for pipes.
        files: For its record.
        owner: Who asked for it, as the worker calls them; for its record, too.
    """

    id: JobId
    argv: Words
    display: str
    cwd: str
    env: dict[bytes, bytes]
    stdin: bool = False
    timeout: Seconds | None = None
    is_awaited: bool = True
    orphan_timeout: Seconds | None = None
    terminal: tuple[Cells, Cells] | None = None
    files: JobFiles = JobFiles()
    owner: str = ""


class Feed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Bytes for a process's stdin; ``offset`` makes a repeated one harmless.

    Attributes:
        offset: Position of ``data`` in all that this writer sends.
        writer: Who sends it, as a name of its own making.
    """

    id: JobId
    offset: Count
    data: bytes = b""
    end: bool = False
    writer: str = ""


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Stop a job: signal, then SIGTERM, then SIGKILL, ``grace`` seconds apart."""

    id: JobId
    signal: str = "SIGINT"
    grace: Seconds = 10.0
    reason: str = ""


class Attend(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Say if anybody reads a job, and if anybody keeps up with it.

    Attributes:
        is_read: True if it has a reader; asked of jobs that have an orphan timeout.
        is_followed: False if every reader is far behind, or there is none.
    """

    id: JobId
    is_read: bool = False
    is_followed: bool = True


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The worker leaves for good: end as soon as no job runs."""


class Resize(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Give a job's terminal another size; nothing for a job without one."""

    id: JobId
    rows: Cells
    cols: Cells


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The answer to :class:`Greet`, with all jobs held; version 0 for none common.

    An ended job is among them only if its end could not be written to its journal.
    """

    version: int
    pid: int
    jobs: tuple[JobInfo, ...] = ()


class Spawned(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer to :class:`Spawn`."""

    id: str
    pid: int = 0
    started: float = 0.0
    failure: Failure | None = None


class Fed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Stdin bytes of the last writer up to this offset are with the process.

    Attributes:
        problem: Why the last :class:`Feed` was refused; empty if it was not.
    """

    id: str
    offset: int
    closed: bool = False
    problem: str = ""


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to :class:`Stop`."""

    id: str
    report: StopReport


class Grown(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The job's journal is complete up to this position.

    Attributes:
        dropped: Bytes of output so far that could not be kept.
        fresh: The journal's bytes before this position, if they are few: they need not
            be read. They are in the file, too.
    """

    id: str
    position: int
    dropped: int = 0
    fresh: bytes = b""


class JobEnded(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The job has ended; its end is in the journal already.

    Attributes:
        fresh: As of :class:`Grown`, up to the end of the output.
    """

    id: str
    outcome: Outcome
    fresh: bytes = b""


class Pressed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The disk gets full: what can be let go of old jobs should be."""


ToSupervisor = Greet | Spawn | Feed | Stop | Finish | Attend | Resize
FromSupervisor = Greeting | Spawned | Fed | Stopped | Grown | JobEnded | Pressed

_to: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)
_from: msgspec.msgpack.Decoder[FromSupervisor] = msgspec.msgpack.Decoder(FromSupervisor)
encode = msgspec.msgpack.Encoder().encode

# TypeError: a map as a map's key, before msgspec 0.22.
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


def common_version(greet: Greet) -> int:
    """Give the newest version that both sides speak; 0 for none."""
    common = min(greet.newest, VERSION)
    return common if common >= max(greet.oldest, OLDEST_VERSION) else 0


def decode_to_supervisor(frame: bytes | memoryview) -> ToSupervisor:
    """Read what a worker sent.

    Raises:
        RemoteProtocolError: For anything else.
    """
    try:
        return _to.decode(frame)
    except _FAULTS as exc:
        raise RemoteProtocolError(f"not a message to a supervisor: {exc}") from exc


def decode_from_supervisor(frame: bytes | memoryview) -> FromSupervisor:
    """Read what a supervisor sent.

    Raises:
        RemoteProtocolError: For anything else.
    """
    try:
        return _from.decode(frame)
    except _FAULTS as exc:
        raise RemoteProtocolError(f"not a message of a supervisor: {exc}") from exc
