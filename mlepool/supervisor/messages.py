"""What a worker and its supervisor say to each other over their unix socket.

A worker of another version than the supervisor's must understand it, so the rules are
those of the wire: arrays with a tag, fields only ever appended, with a default.
"""

import msgspec

from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import Failure, Outcome
from mlepool.wire.values import JobInfo, StopReport

__all__ = [
    "Fed",
    "Feed",
    "Finish",
    "Forget",
    "FromSupervisor",
    "Greet",
    "Greeting",
    "Grown",
    "JobEnded",
    "Spawn",
    "Spawned",
    "Stop",
    "Stopped",
    "ToSupervisor",
    "decode_from_supervisor",
    "decode_to_supervisor",
]

VERSION = 1


class Greet(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A worker says which versions it speaks."""

    oldest: int = VERSION
    newest: int = VERSION


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Start a process.

    Attributes:
        argv: The program and its arguments.
        display: The command, for people.
        env: The whole environment.
        stdin: True for a pipe, False for nothing.
        timeout: Seconds until it is stopped; None for never.
    """

    id: str
    argv: tuple[bytes, ...]
    display: str
    cwd: str
    env: dict[str, str]
    stdin: bool = False
    timeout: float | None = None


class Feed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Bytes for a process's stdin; ``offset`` makes a repeated one harmless."""

    id: str
    offset: int
    data: bytes = b""
    end: bool = False


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Stop a job: signal, then SIGTERM, then SIGKILL, ``grace`` seconds apart."""

    id: str
    signal: str = "SIGINT"
    grace: float = 10.0
    reason: str = ""


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The worker has noted the job's end."""

    id: str


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The worker leaves for good: end as soon as no job runs."""


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The answer to :class:`Greet`, with all jobs held; version 0 for none common."""

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
    """Stdin bytes up to this offset are with the process."""

    id: str
    offset: int
    closed: bool = False


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to :class:`Stop`."""

    id: str
    report: StopReport


class Grown(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The job's journal is complete up to this position."""

    id: str
    position: int


class JobEnded(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The job has ended; its end is in the journal already."""

    id: str
    outcome: Outcome


ToSupervisor = Greet | Spawn | Feed | Stop | Forget | Finish
FromSupervisor = Greeting | Spawned | Fed | Stopped | Grown | JobEnded

_to: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)
_from: msgspec.msgpack.Decoder[FromSupervisor] = msgspec.msgpack.Decoder(FromSupervisor)
encode = msgspec.msgpack.Encoder().encode

_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_to_supervisor(frame: bytes) -> ToSupervisor:
    """Read what a worker sent.

    Raises:
        RemoteProtocolError: For anything else.
    """
    try:
        return _to.decode(frame)
    except _FAULTS as exc:
        raise RemoteProtocolError(f"not a message to a supervisor: {exc}") from exc


def decode_from_supervisor(frame: bytes) -> FromSupervisor:
    """Read what a supervisor sent.

    Raises:
        RemoteProtocolError: For anything else.
    """
    try:
        return _from.decode(frame)
    except _FAULTS as exc:
        raise RemoteProtocolError(f"not a message of a supervisor: {exc}") from exc
