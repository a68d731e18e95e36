"""Run commands on many machines from Python: live, exactly once, secure.

::

    import mlepool

    with mlepool.add("gpu1") as conn:
        for line in conn.run("python train.py", complete=False):
            print(line)

Names are loaded when they are first used: the supervisor of a worker, which shares
this package, starts without any of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mlepool.version import __version__

if TYPE_CHECKING:
    from mlepool.client.connection import AsyncConnection
    from mlepool.client.groups.group import AsyncGroup
    from mlepool.client.groups.listener import AsyncGroupListener
    from mlepool.client.listening.lines import BytesLine, Line
    from mlepool.client.listening.listener import AsyncListener, Status
    from mlepool.client.listening.points import Points
    from mlepool.client.pool import AsyncClientPool
    from mlepool.client.sweeps.rows import SweepRun
    from mlepool.client.sweeps.sweep import AsyncSweep
    from mlepool.client.sync import ClientPool, Connection, Listener, add, pool
    from mlepool.client.sync.groups import Group, GroupListener
    from mlepool.client.sync.sweeps import Sweep
    from mlepool.errors import (
        AuthenticationError,
        ClientError,
        CommandError,
        CommandTimeoutError,
        ConfigError,
        ConnectError,
        ConnectionClosedError,
        ConnectionLostError,
        ConnectTimeoutError,
        JobLostError,
        ListenerTimeoutError,
        LocalProtocolError,
        MlepoolError,
        PermissionDeniedError,
        PortalError,
        ProtocolError,
        RemoteError,
        RemoteProtocolError,
        SkippedError,
        SweepPlanError,
        SweepRunError,
        SyncHaltedError,
        SyncIncompleteError,
        UntrustedWorkerError,
        VersionError,
        WorkerBusyError,
        WorkerError,
    )
    from mlepool.wire.answers import FileInfo, Listing, OsInfo
    from mlepool.wire.telemetry import JobSample, Sample
    from mlepool.wire.values import (
        JobFiles,
        JobInfo,
        Progress,
        StopReport,
        SyncProblem,
        SyncProgress,
        SyncSummary,
    )

_HOMES = {
    "mlepool.client.connection": ("AsyncConnection",),
    "mlepool.client.groups.group": ("AsyncGroup",),
    "mlepool.client.groups.listener": ("AsyncGroupListener",),
    "mlepool.client.listening.lines": ("BytesLine", "Line"),
    "mlepool.client.listening.listener": ("AsyncListener", "Status"),
    "mlepool.client.listening.points": ("Points",),
    "mlepool.client.pool": ("AsyncClientPool",),
    "mlepool.client.sweeps.rows": ("SweepRun",),
    "mlepool.client.sweeps.sweep": ("AsyncSweep",),
    "mlepool.client.sync": ("ClientPool", "Connection", "Listener", "add", "pool"),
    "mlepool.client.sync.groups": ("Group", "GroupListener"),
    "mlepool.client.sync.sweeps": ("Sweep",),
    "mlepool.errors": (
        "AuthenticationError",
        "ClientError",
        "CommandError",
        "CommandTimeoutError",
        "ConfigError",
        "ConnectError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionLostError",
        "JobLostError",
        "ListenerTimeoutError",
        "LocalProtocolError",
        "MlepoolError",
        "PermissionDeniedError",
        "PortalError",
        "ProtocolError",
        "RemoteError",
        "RemoteProtocolError",
        "SkippedError",
        "SweepPlanError",
        "SweepRunError",
        "SyncHaltedError",
        "SyncIncompleteError",
        "UntrustedWorkerError",
        "VersionError",
        "WorkerBusyError",
        "WorkerError",
    ),
    "mlepool.wire.answers": ("FileInfo", "Listing", "OsInfo"),
    "mlepool.wire.telemetry": ("JobSample", "Sample"),
    "mlepool.wire.values": (
        "JobFiles",
        "JobInfo",
        "Progress",
        "StopReport",
        "SyncProblem",
        "SyncProgress",
        "SyncSummary",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClientPool",
    "AsyncConnection",
    "AsyncGroup",
    "AsyncGroupListener",
    "AsyncListener",
    "AsyncSweep",
    "AuthenticationError",
    "BytesLine",
    "ClientError",
    "ClientPool",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "ConnectError",
    "ConnectTimeoutError",
    "Connection",
    "ConnectionClosedError",
    "ConnectionLostError",
    "FileInfo",
    "Group",
    "GroupListener",
    "JobFiles",
    "JobInfo",
    "JobLostError",
    "JobSample",
    "Line",
    "Listener",
    "ListenerTimeoutError",
    "Listing",
    "LocalProtocolError",
    "MlepoolError",
    "OsInfo",
    "PermissionDeniedError",
    "Points",
    "PortalError",
    "Progress",
    "ProtocolError",
    "RemoteError",
    "RemoteProtocolError",
    "Sample",
    "SkippedError",
    "Status",
    "StopReport",
    "Sweep",
    "SweepPlanError",
    "SweepRun",
    "SweepRunError",
    "SyncHaltedError",
    "SyncIncompleteError",
    "SyncProblem",
    "SyncProgress",
    "SyncSummary",
    "UntrustedWorkerError",
    "VersionError",
    "WorkerBusyError",
    "WorkerError",
    "__version__",
    "add",
    "pool",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mlepool' has no attribute {name!r}", name=name)
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Add ``%on`` and ``%%on``: what ``%load_ext mlepool`` calls."""
    importlib.import_module("mlepool.repl.magics").load(shell)
