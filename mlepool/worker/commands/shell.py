"""Running programs."""

from __future__ import annotations

import os
import shlex
from typing import Any

from mlepool.worker.registry import Process, command

__all__ = ["run"]

SHELL = b"/bin/sh"
MAX_DISPLAY = 2000  # characters of a command in listings; argv itself is not cut


@command
def run(
    command: str | list[Any],
    *,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: bool = False,
) -> Process:
    """Run a command on the worker's host; its messages are lines of its output.

    The job outlives this client, the network and the worker process: only its host or
    its owner ends it. PYTHONUNBUFFERED=1 is set, so that Python programs are live.

    Args:
        command: A list (of str or bytes) is a program and its arguments and meets no
            shell; a str goes to /bin/sh.
        cwd: Where it runs. Relative to the folder that the worker was started in;
            ``~`` is the worker's home.
        env: Variables to set on top of the worker's own environment.
        stdin: True to send input later with ``send_input``; else stdin is empty.

    Raises:
        FileNotFoundError: If the program or cwd is missing.
        PermissionError: If the program may not be executed.
        ValueError: If the command is empty, or there is a NUL in an argument.
    """
    if not command:
        raise ValueError("the command is empty")
    if isinstance(command, str):
        shell = (SHELL, b"-c", os.fsencode(command))
        return Process(shell, command[:MAX_DISPLAY], cwd, env or {}, stdin)
    argv = tuple(_argument(one) for one in command)
    display = shlex.join(one.decode("utf-8", "replace") for one in argv)
    return Process(argv, display[:MAX_DISPLAY], cwd, env or {}, stdin)


def _argument(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return os.fsencode(value)
    raise TypeError(
        f"run(): command: an argument must be str or bytes, not {type(value).__name__}"
    )
