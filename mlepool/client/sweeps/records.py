"""What a sweep's plan file has: a head, and a line for each thing that was decided."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "VERSION",
    "Buried",
    "Ended",
    "GaveUp",
    "Given",
    "Halted",
    "Head",
    "Host",
    "Record",
    "Repeated",
    "Synced",
    "TakenBack",
]

VERSION = 1  # of the file; fields are only ever appended, tags never used again


class Head(msgspec.Struct, frozen=True, omit_defaults=True, tag="mlepool-sweep"):
    """The first line: what is to be run, and how.

    Attributes:
        id: The sweep's; ids of its jobs begin with it.
        version: Of the file.
        made: When, seconds since the epoch.
        command: With fields.
        axes: Values by name.
        rows: Combinations that were given one by one.
        run: What each run is called with: ``cwd``, ``env``, ``gpus``...
        limit: Seconds for each run.
        sync: The folder to sync to each host before its first run, and where it is.
        collect_to: The folder for what is collected, with fields.
        where: A selector: which hosts may run it.
        slots: Runs at once on each host, or by host.
        retries: How often a failed run is repeated.
        retries_lost: How often one that is proven to be lost is repeated.
        lost_timeout: Seconds after which a host that is away loses its runs.
        max_failures: How many runs may fail until no more begin: a number, or percent.
    """

    id: str
    command: str | list[str]
    version: int = VERSION
    made: float = 0.0
    axes: dict[str, list[Any]] = {}
    rows: list[dict[str, Any]] | None = None
    run: dict[str, Any] = {}
    limit: float | None = None
    sync: dict[str, Any] | None = None
    collect_to: str = ""
    where: str = ""
    slots: int | dict[str, int] | None = None
    retries: int = 0
    retries_lost: int = 1
    lost_timeout: float | None = None
    max_failures: int | str | None = None


class Host(msgspec.Struct, frozen=True, array_like=True, tag="host"):
    """A host was met: from now on its name stands for this worker."""

    name: str
    worker: str


class Synced(msgspec.Struct, frozen=True, array_like=True, tag="synced"):
    """The folder is there; ``digest`` says what is in it."""

    host: str
    digest: str


class Given(msgspec.Struct, frozen=True, array_like=True, tag="given"):
    """A run belongs to a host: written before anything is sent."""

    run: int
    attempt: int
    host: str
    time: float


class TakenBack(msgspec.Struct, frozen=True, array_like=True, tag="back"):
    """A run belongs to nobody again: it was not sent."""

    run: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """A run has ended, or an attempt at it that is repeated.

    Attributes:
        run: Which one.
        status: SUCCEEDED, FAILED, STOPPED, TIMED_OUT or LOST.
        exit_code: As of a listener.
        started: Seconds since the epoch.
        seconds: How long it took.
        reason: Who or what ended it, or what failed.
        last: The last line that it printed, shortened.
        points: The last of the points that it printed, by name.
    """

    run: int
    status: str
    exit_code: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    reason: str = ""
    last: str = ""
    points: dict[str, int | float] = {}


class Repeated(msgspec.Struct, frozen=True, array_like=True, tag="again"):
    """A run that has ended waits for another attempt."""

    run: int


class GaveUp(msgspec.Struct, frozen=True, array_like=True, tag="gave-up"):
    """A host was away for too long: its run waits for another attempt."""

    run: int
    reason: str = ""


class Buried(msgspec.Struct, frozen=True, array_like=True, tag="buried"):
    """An attempt that was given up does not run any more, and never will."""

    run: int
    attempt: int
    host: str


class Halted(msgspec.Struct, frozen=True, array_like=True, tag="halted"):
    """No more runs begin.

    Attributes:
        reason: Why; empty if they may begin again.
        stops: True if those that have begun are to be stopped.
    """

    reason: str = ""
    stops: bool = False


Record = Host | Synced | Given | TakenBack | Ended | Repeated | GaveUp | Buried | Halted
