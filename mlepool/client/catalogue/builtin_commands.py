"""The built-in commands of workers, for editors and type checkers.

None of them is there at run time: what a worker offers is bound when it is connected.
"""

# ruff: noqa: FBT001, FBT002, PLR0917 -- the worker's signatures, as they are
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from typing import Unpack

    from mlepool.client.listening.listener import AsyncListener

__all__ = ["BuiltinCommands", "CallKeywords", "Path", "RunKeywords"]

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


class BuiltinCommands:
    """What workers offer by themselves, as methods of a connection."""

    if TYPE_CHECKING:

        async def run(
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
        ) -> AsyncListener:
            """Run a command on the worker's host."""

        async def exec(
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
        ) -> AsyncListener:
            """Run a command on the worker's host."""

        async def stop(
            self,
            job_id: str,
            signal: str = "SIGINT",
            grace: float = 10.0,
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Stop a job: its whole tree of processes, with proof."""

        async def kill(
            self, job_id: str, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Kill a job: SIGKILL to its whole tree of processes, with proof."""

        async def jobs(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """List the jobs that run on this worker, and the latest that have ended."""

        async def is_alive(
            self, job_id: str, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Tell if a job has not ended yet."""

        async def job(
            self, job_id: str, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Describe one job, also one that has ended long ago."""

        async def send_input(
            self,
            job_id: str,
            data: str | bytes = b"",
            offset: int = 0,
            end: bool = False,
            *,
            writer: str = "",
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Write to a job's stdin; returns when the process's pipe has taken it."""

        async def resize(
            self, job_id: str, rows: int, cols: int, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Give a job's terminal another size."""

        async def cd(
            self, dest: Path = "~", **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Go to another folder: this connection's relative paths count from it."""

        async def cwd(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Tell where this connection is."""

        async def ls(
            self,
            src: Path = ".",
            *,
            after: bytes = b"",
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """List a folder: all that is in it, hidden files too, by name."""

        async def stat(
            self, path: Path, *, follow: bool = True, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Describe a file, folder or link."""

        async def glob(
            self, pattern: Path, *, after: bytes = b"", **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Find files and folders by a pattern, as a shell does."""

        async def read(
            self,
            path: Path,
            *,
            encoding: str | None = "utf-8",
            errors: str = "strict",
            offset: int = 0,
            size: int | None = None,
            tail: int | None = None,
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Read a file, or a part of it."""

        async def rdfile(
            self, path: Path, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Read a file as bytes."""

        async def write(
            self,
            path: Path,
            data: str | bytes,
            *,
            encoding: str = "utf-8",
            append: bool = False,
            offset: int | None = None,
            parents: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Write a file: all of it, or a part."""

        async def wrfile(
            self,
            path: Path,
            data: str | bytes,
            append: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Write a file; ``write`` by Conplyent's name."""

        async def mkdir(
            self, path: Path, mode: int | None = None, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Make a folder; the one that it is in must be there."""

        async def mkdirs(
            self, path: Path, exist_ok: bool = False, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Make a folder, and the folders on the way to it."""

        async def rm(
            self, path: Path, recursive: bool = False, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Remove a file, a link or an empty folder."""

        async def touch(
            self, path: Path, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Make an empty file, or set the time of what is there to now."""

        async def copy(
            self,
            src: Path,
            dest: Path,
            recursive: bool = False,
            **keywords: Unpack[CallKeywords],
        ) -> AsyncListener:
            """Copy a file on the worker's host, with its mode and time."""

        async def move(
            self, src: Path, dest: Path, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Move or rename a file or folder on the worker's host."""

        async def get_time(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Give the host's time, with its time zone."""

        async def os_info(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Tell which operating system the host has."""

        async def user_name(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Tell which account the worker runs as, and so its jobs."""

        async def env(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Give the environment that jobs get, before what ``run(env=)`` sets."""

        async def which(
            self, program: str, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Find a program as ``run`` would."""

        async def sleep(
            self, seconds: float, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Do nothing for a while, on the worker; it may be given a ``timeout``."""

        async def reboot(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Reboot the host. All jobs end with it."""

        async def shutdown(self, **keywords: Unpack[CallKeywords]) -> AsyncListener:
            """Shut the host down and switch it off. All jobs end with it."""

        async def close_server(
            self, grace: float = 10.0, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """End the worker. Its jobs go on: the next worker finds them."""

        async def set_name(
            self, name: str | None = None, **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Rename the worker; it keeps the name when it is started again."""

        async def set_labels(
            self, labels: dict[str, str | None], **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Set labels of the worker, beside those that it has; it keeps them."""

        async def set_state(
            self, values: dict[str, Any], **keywords: Unpack[CallKeywords]
        ) -> AsyncListener:
            """Set properties of the worker's state."""

        async def set_metrics(
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
        ) -> AsyncListener:
            """Set how often the worker measures what, for all clients; 0 is never."""
