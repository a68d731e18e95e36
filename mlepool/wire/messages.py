"""The messages of the protocol, one frozen struct each.

On the wire a message is a MessagePack array whose first item is its tag. Fields are
only ever appended, with a default: an older peer ignores what a newer one appended,
and a missing trailing field takes its default. Job output does not travel as a
message but as a data frame (see :mod:`mlepool.wire.codec`).
"""

from typing import Annotated, Any

import msgspec

__all__ = [
    "Accepted",
    "Attach",
    "Bye",
    "CommandSpec",
    "Credit",
    "Ended",
    "Event",
    "Failure",
    "Hello",
    "Leave",
    "Look",
    "Message",
    "Outcome",
    "Parameter",
    "Ping",
    "Pong",
    "Proof",
    "Request",
    "Seen",
    "Skip",
    "Welcome",
]

MAX_CALL = 2**32 - 1  # a data frame has 4 bytes for it

# What the other side may say is checked as it is decoded: no call or place that is
# out of range gets any further.
CallNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_CALL)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Parameter(msgspec.Struct, frozen=True, array_like=True):
    """One parameter of a worker's command.

    Attributes:
        kind: The name of an ``inspect.Parameter`` kind.
        annotation: The annotation as source text; empty for none.
        default: The default as source text for display; None if required.
    """

    name: str
    kind: str
    annotation: str = ""
    default: str | None = None


class CommandSpec(msgspec.Struct, frozen=True, array_like=True):
    """One command of the worker's catalogue: name, docstring and signature.

    Attributes:
        spawns: True if the command starts a process, whose output are its messages.
        streams: True if it is a job inside the worker: its messages are what it yields.
        role: The role that a client's token must have for it.
        about: What its capability is for, where it is an action of one
            (``images.resize``): the same for all of them.
    """

    name: str
    doc: str = ""
    parameters: tuple[Parameter, ...] = ()
    returns: str = ""
    spawns: bool = False
    streams: bool = False
    role: str = "run"
    about: str = ""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An exception, as data: never code, never pickled."""

    type_name: str
    message: str = ""
    traceback: str = ""
    errno: int | None = None
    filename: str | None = None


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How a command ended.

    Attributes:
        status: SUCCEEDED, FAILED, STOPPED, TIMED_OUT or LOST.
        exit_code: A process's exit status, negative for a signal.
        end: Journal position after the last byte of output.
        stdout: Bytes written to stdout in all; ``stderr`` likewise.
        digest: Digests of stdout and stderr, as ``"xxh3-128:<hex>,<hex>"``; of a job
            inside the worker a third one, of what it has yielded.
        started: When it began, seconds since the epoch; ``ended`` likewise.
        reason: Who or what ended it, where that was not itself.
        yielded: Bytes of the yielded stream in all.
    """

    status: str
    exit_code: int | None = None
    end: int = 0
    stdout: int = 0
    stderr: int = 0
    digest: str = ""
    value: Any = None
    failure: Failure | None = None
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    yielded: int = 0


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message of each side: which versions it speaks, and a nonce.

    Attributes:
        oldest: Oldest protocol version spoken; ``newest`` the newest.
        software: Name and version of the program, for the other side's errors.
        key: The worker's key fingerprint; empty from a client.
        nonce: 32 random bytes that the other side's proof must cover.
    """

    oldest: int
    newest: int
    software: str = ""
    key: str = ""
    nonce: bytes = b""
    capabilities: tuple[str, ...] = ()


NO_COMMANDS = msgspec.Raw(b"\x90")  # an empty array


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The client knows a token: an HMAC under it, never the token itself.

    Attributes:
        catalogues: Digests of catalogues that it has, which need not be sent again.
    """

    token_id: str = ""
    mac: bytes = b""
    catalogues: tuple[bytes, ...] = ()


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The worker accepts the client, proves its own knowledge, and offers itself.

    Attributes:
        commands: Its catalogue, an array that is not read before somebody wants it
            (:mod:`mlepool.wire.catalogue`); empty if the client has it already.
        catalogue: The digest of what was left out; else empty.
    """

    mac: bytes
    worker: str = ""
    commands: msgspec.Raw = NO_COMMANDS
    state: dict[str, Any] = {}
    catalogue: bytes = b""


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The last message of a side that closes in order, with the reason.

    Attributes:
        code: ``"closed"``, ``"version"``, ``"refused"``, ``"untrusted"``,
            ``"protocol"``, ``"silent"``, ``"busy"`` or ``"ending"``.
    """

    code: str
    reason: str = ""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Asks for a :class:`Pong` with the same number."""

    number: int = 0


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answers a :class:`Ping`."""

    number: int = 0


class Request(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Calls a command.

    Attributes:
        call: Number of this call on this link; answers and output carry it.
        id: The command's id, made by the client. Sent again, it means the same job.
        window: Bytes of output that may come before more credit is given.
        timeout: Seconds until the worker stops the job; None for no limit.
        is_awaited: True if the caller waits for Accepted; else it may come late, or
            not at all before Ended.
        position: Journal position to go on from: what was received over former links.
        age: Seconds since it was first sent, if it is sent again; else 0.
        cwd: The connection's working directory, absolute; empty for the worker's root.
    """

    call: CallNumber
    id: str
    command: str
    arguments: dict[str, Any] = {}
    window: Count = 0
    timeout: Seconds | None = None
    is_awaited: bool = True
    position: Count = 0
    age: Seconds = 0.0
    cwd: str = ""


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The worker has started what a Request or Attach asked for, or has put it in line.

    Of a job in line it comes again when its place is another one, and when it begins.

    Attributes:
        position: Journal position from which output will come.
        started: When the job began, seconds since the epoch.
        streams: True if it is a job inside the worker, as in :class:`CommandSpec`.
        place: Where in line it waits to begin, counted from 1; 0 once it has begun.
    """

    call: CallNumber
    position: Count = 0
    started: float = 0.0
    command: str = ""
    streams: bool = False
    place: Count = 0


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The end of a command. Comes after its last byte of output."""

    call: CallNumber
    outcome: Outcome


class Credit(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Output up to this journal position may be sent. Absolute, so repeatable."""

    call: CallNumber
    position: Count


class Attach(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Reads a job's output from a journal position, then follows it to its end.

    Attributes:
        position: Where a record begins; anywhere, if it is resumed.
        window: Bytes of output that may come before more credit is given.
        is_resumed: True if it goes on with what came over a former link.
    """

    call: CallNumber
    id: str
    position: Count = 0
    window: Count = 0
    is_resumed: bool = False


class Skip(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Output up to a journal position was let go, to keep within a quota.

    What comes next begins there. How many bytes of which stream are missing is told
    by the offsets of the records that follow.
    """

    call: CallNumber
    position: Count


class Look(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Asks where a job's output ends now: with :class:`Seen`."""

    call: CallNumber


class Seen(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Answers a :class:`Look`: the journal's end. Who has received all knows it."""

    call: CallNumber
    position: Count


class Leave(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The client reads this call's output no more; the job goes on."""

    call: CallNumber


class Event(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Something changed on the worker, e.g. ``state-change``."""

    name: str
    data: Any = None


Message = (
    Hello
    | Proof
    | Welcome
    | Bye
    | Ping
    | Pong
    | Request
    | Accepted
    | Ended
    | Credit
    | Attach
    | Leave
    | Event
    | Skip
    | Look
    | Seen
)
