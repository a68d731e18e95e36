"""What the first release's workers and supervisors say, and write: never changed.

Written down once, with nothing but what travels: places, names, types and tags. A
supervisor of that release may hold jobs of months' length.
"""

from typing import Any, Literal

import msgspec

VERSION = 1


class Limits(msgspec.Struct, frozen=True, array_like=True):
    job_quota: int = 10737418240
    keep_free: float = 0.1
    durability: Literal["power", "process"] = "process"


class Greet(msgspec.Struct, frozen=True, array_like=True, tag=1):
    oldest: int = 1
    newest: int = 1
    environment: dict[bytes, bytes] = {}
    limits: Limits = Limits()


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=2):
    id: str
    argv: tuple[bytes, ...]
    display: str
    cwd: str
    env: dict[bytes, bytes]
    stdin: bool = False
    timeout: float | None = None
    is_awaited: bool = True
    orphan_timeout: float | None = None
    terminal: tuple[int, int] | None = None


class Feed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    id: str
    offset: int
    data: bytes = b""
    end: bool = False
    writer: str = ""


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=4):
    id: str
    signal: str = "SIGINT"
    grace: float = 10.0
    reason: str = ""


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """It says nothing more."""


class Attend(msgspec.Struct, frozen=True, array_like=True, tag=6):
    id: str
    is_read: bool = False


class Resize(msgspec.Struct, frozen=True, array_like=True, tag=7):
    id: str
    rows: int
    cols: int


class Failure(msgspec.Struct, frozen=True, array_like=True):
    type_name: str
    message: str = ""
    traceback: str = ""
    errno: int | None = None
    filename: str | None = None


class Outcome(msgspec.Struct, frozen=True, array_like=True):
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


class JobInfo(msgspec.Struct, frozen=True, array_like=True):
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


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag=1):
    version: int
    pid: int
    jobs: tuple[JobInfo, ...] = ()


class Spawned(msgspec.Struct, frozen=True, array_like=True, tag=2):
    id: str
    pid: int = 0
    started: float = 0.0
    failure: Failure | None = None


class Fed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    id: str
    offset: int
    closed: bool = False
    problem: str = ""


class Signalled(msgspec.Struct, frozen=True, array_like=True):
    signal: str
    pid: int
    command: str
    after: float = 0.0


class Survivor(msgspec.Struct, frozen=True, array_like=True):
    pid: int
    command: str
    cause: str = ""


class StopReport(msgspec.Struct, frozen=True, array_like=True):
    job_id: str
    status: str
    signalled: tuple[Signalled, ...] = ()
    survivors: tuple[Survivor, ...] = ()
    seconds: float = 0.0


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag=4):
    id: str
    report: StopReport


class Grown(msgspec.Struct, frozen=True, array_like=True, tag=5):
    id: str
    position: int
    dropped: int = 0


class JobEnded(msgspec.Struct, frozen=True, array_like=True, tag=6):
    id: str
    outcome: Outcome


class Pressed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """It says nothing more."""


class JobHead(msgspec.Struct, frozen=True, array_like=True):
    id: str
    command: str
    cwd: str
    created: float
    boot_id: str = ""
    kept: int = 4611686018427387904


class JobProcess(msgspec.Struct, frozen=True, array_like=True):
    pid: int
    born: tuple[int, int]
    started: float


TO_SUPERVISOR = (Greet, Spawn, Feed, Stop, Finish, Attend, Resize)
FROM_SUPERVISOR = (Greeting, Spawned, Fed, Stopped, Grown, JobEnded, Pressed)
ON_DISK = (Outcome, JobHead, JobProcess)
ToSupervisor = Greet | Spawn | Feed | Stop | Finish | Attend | Resize
FromSupervisor = Greeting | Spawned | Fed | Stopped | Grown | JobEnded | Pressed
