"""The built-in commands of workers, for editors and type checkers.

None of them is there at run time: what a worker offers is bound when it is connected.
"""

# ruff: noqa: FBT001, FBT002, PLR0917 -- the worker's signatures, as they are
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["BuiltinCommands", "CallKeywords", "Path", "RunKeywords"]

R_co = TypeVar("R_co", covariant=True)

Path = str | bytes | os.PathLike[str]


class CallKeywords(TypedDict, total=False):
    """What every call takes on this side; see :class:`CallOptions`."""

    complete: bool
    timeout: float | None
    echo_response: bool
    max_interval: float | None
    raise_error: bool


class RunKeywords(CallKeywords, total=False):
    """What a call that starts a process takes, too."""

    on_timeout: Literal["stop", "detach"]
    encoding: str | None
    errors: str
    detach: bool
    input: Any
    memory: int
    sync: Any
    collect_to: str | os.PathLike[str] | None


class BuiltinCommands(Generic[R_co]):
    """What workers offer by themselves, as methods of a connection.

    Each face says what a call of its own gives: a Listener, or what is awaited for one.
    """

    if TYPE_CHECKING:

        def run(
            self,
            command: str | Sequence[Path],
            *,
            cwd: Path | None = None,
            env: dict[str, str] | None = None,
            stdin: bool = False,
            tty: bool = False,
            rows: int = 24,
            cols: int = 80,
            orphan_timeout: float | None = None,
            collect: str | list[str] | None = None,
            tree: str = "",
            priority: int = 0,
            queue: bool = True,
            gpus: int = 0,
            **keywords: Unpack[RunKeywords],
        ) -> R_co:
            """Run a command on the worker's host."""

        def exec(
            self,
            cmd: str | Sequence[Path],
            *,
            cwd: Path | None = None,
            env: dict[str, str] | None = None,
            stdin: bool = False,
            tty: bool = False,
            rows: int = 24,
            cols: int = 80,
            orphan_timeout: float | None = None,
            collect: str | list[str] | None = None,
            tree: str = "",
            priority: int = 0,
            queue: bool = True,
            gpus: int = 0,
            **keywords: Unpack[RunKeywords],
        ) -> R_co:
            """Run a command on the worker's host."""

        def stop(
            self,
            job_id: str,
            signal: str | int = "SIGINT",
            grace: float = 10.0,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Stop a job: its whole tree of processes, with proof."""

        def kill(self, job_id: str, **keywords: Unpack[CallKeywords]) -> R_co:
            """Kill a job: SIGKILL to its whole tree of processes, with proof."""

        def jobs(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """List the jobs that run on this worker, and the latest that have ended."""

        def is_alive(self, job_id: str, **keywords: Unpack[CallKeywords]) -> R_co:
            """Tell if a job has not ended yet."""

        def job(self, job_id: str, **keywords: Unpack[CallKeywords]) -> R_co:
            """Describe one job, also one that has ended long ago."""

        def send_input(
            self,
            job_id: str,
            data: str | bytes = b"",
            offset: int = 0,
            end: bool = False,
            *,
            writer: str = "",
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Write to a job's stdin; returns when the process's pipe has taken it."""

        def resize(
            self, job_id: str, rows: int, cols: int, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Give a job's terminal another size."""

        def cd(self, dest: Path = "~", **keywords: Unpack[CallKeywords]) -> R_co:
            """Go to another folder: this connection's relative paths count from it."""

        def cwd(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Tell where this connection is."""

        def ls(
            self,
            src: Path = ".",
            *,
            after: bytes = b"",
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """List a folder: all that is in it, hidden files too, by name."""

        def stat(
            self, path: Path, *, follow: bool = True, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Describe a file, folder or link."""

        def glob(
            self, pattern: Path, *, after: bytes = b"", **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Find files and folders by a pattern, as a shell does."""

        def read(
            self,
            path: Path,
            *,
            encoding: str | None = "utf-8",
            errors: str = "strict",
            offset: int = 0,
            size: int | None = None,
            tail: int | None = None,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Read a file, or a part of it."""

        def rdfile(self, path: Path, **keywords: Unpack[CallKeywords]) -> R_co:
            """Read a file as bytes."""

        def write(
            self,
            path: Path,
            data: str | bytes,
            *,
            encoding: str = "utf-8",
            append: bool = False,
            offset: int | None = None,
            parents: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Write a file: all of it, or a part."""

        def wrfile(
            self,
            path: Path,
            data: str | bytes,
            append: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Write a file; ``write`` by Conplyent's name."""

        def mkdir(
            self, path: Path, mode: int | None = None, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Make a folder; the one that it is in must be there."""

        def mkdirs(
            self, path: Path, exist_ok: bool = False, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Make a folder, and the folders on the way to it."""

        def rm(
            self, path: Path, recursive: bool = False, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Remove a file, a link or an empty folder."""

        def touch(self, path: Path, **keywords: Unpack[CallKeywords]) -> R_co:
            """Make an empty file, or set the time of what is there to now."""

        def copy(
            self,
            src: Path,
            dest: Path,
            recursive: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Copy a file on the worker's host, with its mode and time."""

        def move(self, src: Path, dest: Path, **keywords: Unpack[CallKeywords]) -> R_co:
            """Move or rename a file or folder on the worker's host."""

        def get_time(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Give the host's time, with its time zone."""

        def os_info(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Tell which operating system the host has."""

        def user_name(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Tell which account the worker runs as, and so its jobs."""

        def env(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Give the environment that jobs get, before what ``run(env=)`` sets."""

        def which(self, program: str, **keywords: Unpack[CallKeywords]) -> R_co:
            """Find a program as ``run`` would."""

        def sleep(self, seconds: float, **keywords: Unpack[CallKeywords]) -> R_co:
            """Do nothing for a while, on the worker; it may be given a ``timeout``."""

        def reboot(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Reboot the host. All jobs end with it."""

        def shutdown(self, **keywords: Unpack[CallKeywords]) -> R_co:
            """Shut the host down and switch it off. All jobs end with it."""

        def close_server(
            self, grace: float = 10.0, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """End the worker. Its jobs go on: the next worker finds them."""

        def set_name(
            self, name: str | None = None, **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Rename the worker; it keeps the name when it is started again."""

        def set_labels(
            self, labels: dict[str, str | None], **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Set labels of the worker, beside those that it has; it keeps them."""

        def set_state(
            self, values: dict[str, Any], **keywords: Unpack[CallKeywords]
        ) -> R_co:
            """Set properties of the worker's state."""

        def set_metrics(
            self,
            *,
            every: float | None = None,
            cpu: float | None = None,
            memory: float | None = None,
            disks: float | None = None,
            network: float | None = None,
            gpus: float | None = None,
            jobs: float | None = None,
            **keywords: Unpack[CallKeywords],
        ) -> R_co:
            """Set how often the worker measures what, for all clients; 0 is never."""
