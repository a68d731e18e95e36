"""Running programs."""

from __future__ import annotations

import inspect
import math
import os
import re
import shlex
from typing import Any

from msgspec import structs

from mlepool.wire.values import JobFiles
from mlepool.worker.queue.slots import MAX_PRIORITY
from mlepool.worker.registry import Context, Function, Process, check_size, command

__all__ = ["exec", "run"]

_mark = command  # where a parameter has that name

SHELL = b"/bin/sh"
TERMINAL = "xterm-256color"  # a type that all know and most are
MAX_GPUS = 1024  # no host has so many
MAX_PATTERNS = 16_000  # characters; they stay in the job's record
MAX_DISPLAY = 2000  # characters of a command in listings; argv itself is not cut
NO_FILES = JobFiles()
_DIGEST = re.compile(r"[0-9a-f]{64}")


@command
def run(
    ctx: Context,
    command: str | list[Any],
    *,
    cwd: str | None = None,
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
) -> Process:
    """Run a command on the worker's host; its messages are lines of its output.

    The job outlives this client, the network and the worker process: only its host or
    its owner ends it. PYTHONUNBUFFERED=1 is set, so that Python programs are live.

    Args:
        command: A list (of str or bytes) is a program and its arguments and meets no
            shell; a str goes to /bin/sh.
        cwd: Where it runs; by default where the connection is (``cd``), and relative
            to that. ``~`` is the home of the worker's account.
        env: Variables to set on top of the worker's own environment.
        stdin: True to send input later with ``send_input``; else stdin is empty.
        tty: True for a terminal in place of pipes: its output is all stdout, with
            ``\\r\\n``, and what is sent to stdin is typed. TERM is xterm-256color
            unless ``env`` says otherwise.
        rows: Height of the terminal; :meth:`Listener.resize` changes it.
        cols: Width of the terminal.
        orphan_timeout: Seconds without a reader, this client or another, after which
            the job is stopped as "orphaned"; by default it never is.
        collect: What the client brings back at the end, to ``collect_to``: patterns of
            files in ``cwd``, as lines of a ``.gitignore``. They stay with the job.
        tree: Digest of the tree that was synced for it: ``sync`` gives it. It stays
            with the job: which code was run is known.
        priority: Where jobs wait in line, those with higher numbers begin first;
            -1000 to 1000.
        queue: False to be refused where it would have to wait for a slot or GPUs.
            ``timeout`` does not count while it waits.
        gpus: How many GPUs it is to have, of those that nobody uses:
            CUDA_VISIBLE_DEVICES names them. It waits in line until there are so many.

    Raises:
        FileNotFoundError: If the program or cwd is missing.
        PermissionError: If the program may not be executed.
        ValueError: If the command is empty, there is a NUL in it, in cwd or env, a
            variable can't have that name, a terminal can't have that size,
            orphan_timeout is no time, or there is no such digest or pattern, or there
            are not so many GPUs, or not so high a priority.
        WorkerBusyError: If it would have to wait and ``queue`` is False, or the line
            is full.
    """
    if not command:
        raise ValueError("the command is empty")
    if orphan_timeout is not None and not 0 <= orphan_timeout < math.inf:
        raise ValueError(f"orphan_timeout must be seconds, not {orphan_timeout}")
    argv, display = _words(command)
    process = Process(
        argv,
        display[:MAX_DISPLAY],
        str(ctx.cwd if cwd is None else ctx.cwd / os.path.expanduser(cwd)),
        env or {},
        stdin,
        orphan_timeout,
        files=_files(tree, collect),
        priority=priority,
        queue=queue,
        gpus=_gpu_count(gpus, env or {}),
    )
    if abs(priority) > MAX_PRIORITY:
        raise ValueError(f"run(): priority is -1000 to 1000, not {priority}")
    _check_strings(process)
    if not tty:
        return process
    return structs.replace(
        process,
        env={"TERM": TERMINAL, **process.env},
        terminal=check_size("run", rows, cols),
    )


def _renamed(function: Function, name: str, first: str) -> Function:
    """Make a command of another one; its first parameter has another name, too."""
    signature = inspect.signature(function)
    ctx, old, *others = signature.parameters.values()

    def renamed(ctx: Context, /, **arguments: Any) -> Any:
        return function(ctx, arguments.pop(first), **arguments)

    doc = function.__doc__ or ""
    renamed.__name__ = name
    renamed.__doc__ = doc.replace(f"    {old.name}: ", f"    {first}: ")
    renamed.__annotations__ = {**function.__annotations__, first: old.annotation}
    new = [ctx, old.replace(name=first), *others]
    renamed.__signature__ = signature.replace(parameters=new)  # type: ignore[attr-defined]
    return _mark(renamed)


exec = _renamed(run, "exec", "cmd")


def _check_strings(process: Process) -> None:
    """Refuse what no process can be given, and say where it is."""
    if b"\0" in b"".join(process.argv):
        raise ValueError("run(): command: there is a NUL in it")
    if "\0" in (process.cwd or ""):
        raise ValueError("run(): cwd: there is a NUL in it")
    for name, value in process.env.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"run(): env: {name!r} can't be a variable's name")
        if "\0" in value:
            raise ValueError(f"run(): env: there is a NUL in {name}")


def _gpu_count(gpus: int, env: dict[str, str]) -> int:
    """Check how many GPUs are wanted."""
    if not 0 <= gpus <= MAX_GPUS:
        raise ValueError(f"run(): gpus is a number of GPUs, not {gpus}")
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        if gpus and name in env:
            raise ValueError(f"run(): gpus= sets {name}: leave it out of env")
    return gpus


def _files(tree: str, collect: str | list[str] | None) -> JobFiles:
    """Check what is to stay with the job."""
    if not tree and not collect:
        return NO_FILES
    if tree and not _DIGEST.fullmatch(tree):
        raise ValueError(f"run(): tree: a digest is 64 hex digits, not {tree[:80]!r}")
    patterns = (collect,) if isinstance(collect, str) else tuple(collect or ())
    if sum(map(len, patterns)) > MAX_PATTERNS:
        raise ValueError(f"run(): collect: over {MAX_PATTERNS} characters of patterns")
    return JobFiles(tree, patterns)


def _words(command: str | list[Any]) -> tuple[tuple[bytes, ...], str]:
    """Give what is executed, and how people write it."""
    if isinstance(command, str):
        return (SHELL, b"-c", os.fsencode(command)), command
    argv = tuple(map(_argument, command))
    return argv, shlex.join([one.decode("utf-8", "replace") for one in argv])


def _argument(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return os.fsencode(value)
    raise TypeError(
        f"run(): command: an argument must be str or bytes, not {type(value).__name__}"
    )
