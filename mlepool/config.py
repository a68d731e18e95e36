"""Where things are kept, and a worker's settings: one frozen struct.

Environment:
    MLEPOOL_STATE_DIR: A worker's state folder, in place of the platform's.
    MLEPOOL_HOME: The account's folder, in place of the platform's: known workers,
        where this account's own workers keep their state, and its inventory.
    MLEPOOL_LOOP: ``uvloop`` runs the event loops of workers and of the blocking face
        on uvloop, if it is installed (``pip install 'mlepool[fast]'``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import platformdirs

from mlepool.errors import ConfigError

__all__ = [
    "DAY",
    "DEFAULT_PORT",
    "MIN_QUOTA",
    "SOCKET_FILE",
    "Limits",
    "ListenAddress",
    "Retention",
    "Secret",
    "WorkerConfig",
    "account_dir",
    "config_dir",
    "default_state_dir",
    "parse_listen",
    "write_private",
]

DEFAULT_PORT = 9922
SOCKET_FILE = "worker.sock"  # a worker's local socket, in its state folder
APP = "mlepool"
MIN_QUOTA = 1024 * 1024  # bytes: head and tail of a job are worth having
DAY = 24 * 3600.0  # seconds


class ListenAddress(NamedTuple):
    """Where to listen: ``host`` empty means every interface."""

    host: str
    port: int
    tls: bool = True


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """What jobs' journals may take.

    Attributes:
        job_quota: Bytes of output that are kept of one job.
        keep_free: The part of the disk, 0 to 1, that is left free.
        durability: ``"process"``: an end is told once any process may die, and is safe
            from a loss of power 0.1 s later; ``"power"``: it is told only then.
    """

    job_quota: Annotated[int, msgspec.Meta(ge=MIN_QUOTA)] = 10 * 1024**3
    keep_free: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    durability: Literal["process", "power"] = "process"


class Retention(msgspec.Struct, frozen=True):
    """How much is kept of jobs that have ended; the oldest go first.

    Attributes:
        seconds: After its end a job is kept no longer.
        size: Bytes on disk of all of them.
        jobs: Their number.
    """

    seconds: float = 7 * DAY
    size: int = 20 * 1024**3
    jobs: int = 100_000


class Secret(str):
    """Text that is shown nowhere: neither by ``repr()`` nor in a log."""

    def __repr__(self) -> str:
        return "'...'" if self else "''"


class WorkerConfig(msgspec.Struct, frozen=True):
    """A worker's settings.

    Attributes:
        state_dir: Key, token, journal and sockets.
        listen: Where to listen for clients.
        name: What the worker calls itself; the host's name by default.
        root: The folder that a job's relative ``cwd`` starts from.
        limits: What jobs' journals may take.
        retention: What is kept of jobs that have ended.
        roots: Folders that clients may sync, with all that is in them; none: whatever
            the account may reach, as ``run`` can.
        labels: For choosing workers, e.g. ``{"gpu": "a100"}``.
        extra: Properties of the user's own; part of the worker's state.
        commands: Modules and files to load custom commands from.
        reload: True to read them again whenever they change.
        max_concurrent: Jobs that may run at once; None for any number.
        sample_interval: Seconds between two samples of telemetry; 0 for none.
        sample_size: Bytes on disk of samples that nobody has fetched yet.
        prometheus: True to answer ``GET /metrics`` for who has the ``view`` role.
        audit_size: Bytes of audit log that are kept.
        hub: Where a hub is; noted only, since workers do not dial out yet.
        hub_token: What the hub would know this worker by.
    """

    state_dir: Path
    listen: ListenAddress
    name: str
    root: Path
    limits: Limits = Limits()
    retention: Retention = Retention()
    roots: tuple[Path, ...] = ()
    labels: dict[str, str] = {}
    extra: dict[str, Any] = {}
    commands: tuple[str, ...] = ()
    max_concurrent: int | None = None
    sample_interval: float = 10.0
    sample_size: int = 64 * 1024 * 1024
    prometheus: bool = False
    audit_size: int = 64 * 1024 * 1024
    hub: str = ""
    hub_token: Secret = Secret()
    reload: bool = False


def account_dir() -> Path:
    """Give the account's own folder: known workers and local workers' places."""
    home = os.environ.get("MLEPOOL_HOME")
    return Path(home) if home else platformdirs.user_state_path(APP)


def config_dir() -> Path:
    """Give the folder of what this account's people write: ``~/.config/mlepool``."""
    home = os.environ.get("MLEPOOL_HOME")
    return Path(home) if home else platformdirs.user_config_path(APP)


def default_state_dir() -> Path:
    """Give the state folder of this account's default worker."""
    folder = os.environ.get("MLEPOOL_STATE_DIR")
    return Path(folder) if folder else platformdirs.user_state_path(APP) / "worker"


def parse_listen(text: str) -> ListenAddress:
    """Read ``HOST:PORT``, ``:PORT``, ``HOST``, ``PORT``, or one with ``ws://`` before.

    ``ws://`` listens without TLS, for use behind a tunnel; clients still have to prove
    that they know the token.

    Raises:
        ConfigError: If it is none of these.
    """
    match = re.fullmatch(
        r"(?P<scheme>wss?://)?(?:(?P<alone>\d+)"
        r"|(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*)(?::(?P<port>\d+))?)",
        text,
    )
    digits = match and (match["alone"] or match["port"])
    port = int(digits) if digits else DEFAULT_PORT
    if not match or not text or port > 65535:
        raise ConfigError(
            f"cannot listen on {text!r}: give HOST:PORT, e.g. 127.0.0.1:{DEFAULT_PORT}"
        )
    host = (match["host"] or "").strip("[]")
    return ListenAddress(host, port, tls=match["scheme"] != "ws://")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this account can read, in one step.

    The file is made with mode 0600 beside its target and renamed: at no time is it
    readable by others or half written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    beside.replace(path)
