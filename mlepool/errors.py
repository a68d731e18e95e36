"""Every exception that mlepool raises, in one tree.

::

    MlepoolError
    ├── ClientError
    │   ├── ConnectError                (ConnectionError)  no connection was made
    │   │   ├── ConnectTimeoutError     (TimeoutError)     not within the asked time
    │   │   ├── AuthenticationError     (PermissionError)  the worker refused us
    │   │   ├── UntrustedWorkerError    (PermissionError)  we refused the worker
    │   │   └── VersionError                               no common protocol version
    │   ├── ConnectionLostError         (ConnectionError)  the link broke for good
    │   ├── ConnectionClosedError                          closed by us, or not opened
    │   ├── ListenerTimeoutError        (TimeoutError)     silence over max_interval
    │   ├── PortalError                 (RuntimeError)     no loop can serve this call
    │   ├── SkippedError                                   a group left this host out
    │   └── SweepPlanError                                 a sweep's plan can't be used
    ├── CommandError                    (CalledProcessError)  a run failed
    ├── CommandTimeoutError             (TimeoutError)     a command's deadline passed
    ├── JobLostError                                       the outcome is unknown
    ├── SweepRunError                                      a run of a sweep failed
    ├── SyncHaltedError                                    a sync looks like a mistake
    ├── SyncIncompleteError                                a sync had to leave files out
    ├── RemoteError                     an exception raised on the worker
    │   ├── PermissionDeniedError       (PermissionError)  this client may not do that
    │   └── WorkerBusyError             (RuntimeError)     no free slot, and no waiting
    ├── ProtocolError
    │   ├── LocalProtocolError                             we would break the protocol
    │   └── RemoteProtocolError                            the other side broke it
    ├── LinkError                       (ConnectionError)  a link could not be opened
    ├── WorkerError                     (RuntimeError)     a worker can't start or go on
    └── ConfigError                     (ValueError)       a setting is not usable

Facts are attributes; the sentence is made in ``__str__``.
"""

from __future__ import annotations

import subprocess
from typing import Any

__all__ = [
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
    "LinkError",
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
]

TAIL_LINES = 20  # lines of output that an error repeats: what fits on a screen


class MlepoolError(Exception):
    """Root of all errors of mlepool.

    They can be pickled, and so cross the border between processes. Their ``listener``
    can't: it is None in the copy, which says the same.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by __init__, as exceptions are by default: it may take keywords.
        facts = {**vars(self)}
        if "listener" in facts:
            facts["listener"] = None
        if getattr(self, "filename", None) is not None:
            facts["filename"] = self.filename  # type: ignore[attr-defined]
        return _revive, (type(self), self.args), facts


def _revive(kind: type[MlepoolError], args: tuple[Any, ...]) -> MlepoolError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ClientError(MlepoolError):
    """Something failed on the client's side of a connection."""


class ConnectError(ClientError, ConnectionError):
    """No connection to a worker could be made.

    Attributes:
        host: The host, or the path of the unix socket.
        port: The TCP port; 0 for a unix socket.
        cause: What went wrong, in words.
    """

    def __init__(self, host: str, port: int, cause: str) -> None:
        # Not OSError's: it would take them for an errno, a text and a filename.
        Exception.__init__(self, host, port, cause)
        self.host = host
        self.port = port
        self.cause = cause

    def __str__(self) -> str:
        place = f"{self.host}:{self.port}" if self.port else self.host
        return f"cannot connect to {place}: {self.cause}"


class ConnectTimeoutError(ConnectError, TimeoutError):
    """The worker was not reached within the asked time."""


class AuthenticationError(ConnectError, PermissionError):
    """The worker refused this client: no token, or a wrong one."""


class UntrustedWorkerError(ConnectError, PermissionError):
    """The worker showed a key that is not the trusted one; nothing was sent."""


class VersionError(ConnectError):
    """The two sides share no protocol version; the text names both ranges."""


class ConnectionLostError(ClientError, ConnectionError):
    """The link to a worker broke, and no other will come; jobs there go on.

    Attributes:
        name: The connection's name.
        cause: What went wrong, in words.
    """

    def __init__(self, name: str, cause: str) -> None:
        Exception.__init__(self, name, cause)
        self.name = name
        self.cause = cause

    def __str__(self) -> str:
        return f"lost the connection to {self.name}: {self.cause}"


class ConnectionClosedError(ClientError):
    """The connection is not open: never connected, disconnected or closed."""

    def __init__(self, name: str, state: str) -> None:
        super().__init__(name, state)
        self.name = name
        self.state = state

    def __str__(self) -> str:
        hint = {
            "new": "call connect() first, or use it in a 'with' block",
            "disconnected": "call connect() again",
            "lost": "call connect() again",
        }.get(self.state, "make a new one with add()")
        return f"the connection to {self.name} is {self.state}; {hint}"


class ListenerTimeoutError(ClientError, TimeoutError):
    """No message, or not the expected one, came in time; the job goes on.

    Attributes:
        host: Name of the connection.
        command: What runs there.
        seconds: How long it was waited for.
        job_id: The job's id, for ``attach``.
        pattern: What ``expect()`` waited for; else None.
        tail: The last of what had come then.
    """

    def __init__(
        self, host: str, command: str, *, seconds: float, job_id: str = ""
    ) -> None:
        Exception.__init__(self, host, command)
        self.host = host
        self.command = command
        self.seconds = seconds
        self.job_id = job_id
        self.pattern: object = None
        self.tail = ""

    def __str__(self) -> str:
        if self.pattern is not None:
            return (
                f"{self.pattern!r} was not seen from {self.command!r} on {self.host} "
                f"within {self.seconds:g} s, but {self.tail!r}; "
                f"the job {self.job_id} goes on"
            )
        return (
            f"no message from {self.command!r} on {self.host} for "
            f"{self.seconds:g} s; the job {self.job_id} goes on"
        )


class SkippedError(ClientError):
    """A group's call was not begun on a host.

    Attributes:
        host: Name of the connection.
        cause: Why not.
    """

    def __init__(self, host: str, cause: str) -> None:
        super().__init__(host, cause)
        self.host = host
        self.cause = cause

    def __str__(self) -> str:
        return f"skipped on {self.host}: {self.cause}"


class PortalError(ClientError, RuntimeError):
    """The event loop that would serve this call has ended, or is not this one."""


class SweepPlanError(ClientError):
    """The file of a sweep's plan can't be used: it is driven by another, or damaged.

    Attributes:
        path: The file.
        cause: What is wrong, in words.
    """

    def __init__(self, path: Any, cause: str) -> None:
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        return f"the plan {self.path}: {self.cause}"


class CommandError(MlepoolError, subprocess.CalledProcessError):
    """A run ended with a non-zero exit status or by a signal.

    Attributes:
        listener: The finished Listener, with the whole outcome.
        returncode: The exit status; negative for a signal (as in subprocess).
        host: Name of the connection.
    """

    def __init__(
        self, listener: Any, *, host: str, command: Any, returncode: int, **texts: str
    ) -> None:
        subprocess.CalledProcessError.__init__(
            self,
            returncode,
            command,
            output=texts.get("stdout"),
            stderr=texts.get("stderr"),
        )
        self.args = (returncode, command)  # as CalledProcessError's
        self.listener = listener
        self.host = host
        self._end = ""
        if getattr(listener, "exit_code", 0) is None:  # it is no process
            self._end = f"as {listener.status}: {listener.reason}"

    def __str__(self) -> str:
        end = f"with exit status {self.returncode}"
        if self.returncode < 0:
            end = f"with signal {-self.returncode}"
        text = f"{self.cmd!r} on {self.host} ended {self._end or end}"
        tail = (self.stderr or self.output or "").splitlines()[-TAIL_LINES:]
        return "\n  ".join([text, *tail])


class CommandTimeoutError(MlepoolError, TimeoutError):
    """A command's ``timeout`` passed.

    Attributes:
        listener: The Listener, with the output so far.
        host: Name of the connection.
        command: What ran there.
        job_id: The job's id.
        seconds: The timeout that was asked for.
        output: The text that had arrived, stdout and stderr in order.
        stopped: True if the worker has stopped the job, False if the job was left
            (``on_timeout="detach"``), None if the worker has not answered.
    """

    def __init__(
        self, listener: Any, seconds: float, *, output: str, stopped: bool | None
    ) -> None:
        Exception.__init__(self, seconds)
        self.listener = listener
        self.host, self.command = listener.host, listener.command
        self.job_id = listener.id
        self.seconds = seconds
        self.output = output
        self.stopped = stopped

    def __str__(self) -> str:
        fate = {
            True: "it was stopped",
            False: f"it goes on as job {self.job_id}",
            None: "the worker does not answer; whether it was stopped is unknown",
        }[self.stopped]
        return (
            f"{self.command!r} on {self.host} did not end within {self.seconds:g} s; "
            f"{fate}"
        )


class JobLostError(MlepoolError):
    """A job's outcome is unknown: neither success nor failure can be claimed."""

    def __init__(self, job_id: str, host: str, *, cause: str) -> None:
        super().__init__(job_id, host, cause)
        self.job_id = job_id
        self.host = host
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"the outcome of job {self.job_id} on {self.host} is unknown: {self.cause}"
        )


class SweepRunError(MlepoolError):
    """A run of a sweep did not end well.

    Attributes:
        run: The :class:`~mlepool.SweepRun`: its parameters, host, exit code, last line.
    """

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return str(self.run)


class SyncHaltedError(MlepoolError):
    """A sync looks like a mistake, and nothing was changed.

    Attributes:
        cause: What is odd, in words.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.cause}; nothing was changed, force=True syncs nevertheless"


class SyncIncompleteError(MlepoolError):
    """Some files could not be synced; everything else was.

    Attributes:
        summary: The :class:`~mlepool.SyncSummary`; its ``problems`` say which and why.
    """

    def __init__(self, summary: Any) -> None:
        super().__init__(summary)
        self.summary = summary

    def __str__(self) -> str:
        problems = self.summary.problems
        lines = [f"{one.path!r}: {one.text}" for one in problems[:TAIL_LINES]]
        if len(problems) > len(lines):
            lines.append(f"and {len(problems) - len(lines)} more")
        text = f"all was synced but {len(problems)}"
        return "\n  ".join([text, *lines])


class RemoteError(MlepoolError):
    """An exception raised on the worker.

    Where the remote exception is a safe built-in type, what is raised is also of
    that type (``except FileNotFoundError`` works, ``errno`` and ``filename`` set).

    Attributes:
        host: Name of the connection.
        type_name: Name of the remote exception's type.
        message: Its text.
        traceback: The remote traceback as text; may be empty.
    """

    host: str = ""
    type_name: str = "Exception"
    message: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        where = f" (on {self.host})" if self.host else ""
        text = self.message or self.type_name
        # Else nothing here names the type: "7" of a SystemExit says too little.
        if type(self) is RemoteError and self._is_foreign() and self.message:
            text = f"{self.type_name}: {text}"
        return f"{text}{where}"

    def _is_foreign(self) -> bool:
        return self.type_name != "Exception" and self.type_name not in __all__


class PermissionDeniedError(RemoteError, PermissionError):
    """What was asked for needs a right that this client's token has not.

    The text names the right. It was not done, and is in the worker's audit log.
    """


class WorkerBusyError(RemoteError, RuntimeError):
    """All slots of the worker are taken, and the run was not to wait (``queue=False``).

    Nothing was started.
    """


class ProtocolError(MlepoolError):
    """A rule of the protocol was broken."""


class LocalProtocolError(ProtocolError):
    """Our own side was asked to send what the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol forbids."""


class LinkError(MlepoolError, ConnectionError):
    """A link could not be opened or listened on.

    Attributes:
        kind: ``"unknown host"``, ``"refused"``, ``"unreachable"``, ``"timeout"``,
            ``"tls"``, ``"http"``, ``"untrusted"`` or ``"other"``.
        cause: What went wrong, in words.
    """

    def __init__(self, kind: str, cause: str) -> None:
        Exception.__init__(self, kind, cause)
        self.kind = kind
        self.cause = cause

    def __str__(self) -> str:
        return self.cause


class WorkerError(MlepoolError, RuntimeError):
    """A worker or its supervisor cannot start or go on."""


class ConfigError(MlepoolError, ValueError):
    """A setting is not usable; the text says which, where, and what would be."""
