"""The worker's host, and the worker itself."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import math
import os
import platform
import pwd
import re
import shlex
import shutil
import subprocess
import sys

from mlepool.settings.properties import looks_secret
from mlepool.wire.answers import OsInfo
from mlepool.wire.values import JobInfo
from mlepool.worker.environment import base_environment
from mlepool.worker.registry import Context, command

__all__ = [
    "close_server",
    "env",
    "get_time",
    "os_info",
    "reboot",
    "shutdown",
    "sleep",
    "user_name",
    "which",
]

HIDDEN = "(hidden)"
# In a variable's name, besides what is a secret anywhere: its value is for admins.
_SECRET = re.compile(r"KEY$|(^|_)(PASS|AUTH|DSN|PW|PAT|CREDS?)($|_)", re.IGNORECASE)
_FOLDERS = frozenset({"PWD", "OLDPWD"})  # no passwords, though they look like it
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
_SYSTEMS = {"darwin": "mac", "win32": "windows"}
POWER_LIMIT = 30.0  # seconds that the program may take which ends the host
# The first that is there is called.
REBOOT = (("systemctl", "reboot"), ("shutdown", "-r", "now"), ("reboot",))
SHUTDOWN = (("systemctl", "poweroff"), ("shutdown", "-h", "now"), ("poweroff",))


@command(role="view")
def get_time() -> datetime.datetime:
    """Give the host's time.

    Returns:
        A ``datetime`` with a time zone, which is UTC on the client's side.
    """
    return datetime.datetime.now().astimezone()


@command(role="view")
def os_info() -> OsInfo:
    """Tell which operating system the host has.

    Returns:
        A :class:`~mlepool.OsInfo`: its ``system`` is ``"linux"``, ``"mac"`` or
        ``"windows"``.
    """
    distribution = ""
    with contextlib.suppress(OSError):
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return OsInfo(
        _SYSTEMS.get(sys.platform, sys.platform),
        platform.release(),
        distribution,
        platform.machine(),
        platform.node(),
    )


@command(role="view")
def user_name() -> str:
    """Tell which account the worker runs as, and so its jobs.

    Returns:
        Its name; its number if it has none.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@command
def env(ctx: Context) -> dict[str, str]:
    """Give the environment that jobs get, before what ``run(env=)`` sets.

    Values of variables whose names look like those of secrets (``..._TOKEN``,
    ``PASSWORD``, ...), and passwords in URLs, are hidden unless the client has the
    role ``admin``.

    Returns:
        Values by name.
    """
    found = {_text(name): _text(one) for name, one in base_environment().items()}
    if not ctx.grant.has("admin"):
        found = {name: _hidden(name, one) for name, one in found.items()}
    return dict(sorted(found.items()))


@command(blocks=True, repeatable=True)
def which(ctx: Context, program: str) -> str | None:
    """Find a program as ``run`` would.

    Args:
        program: Its name; with a slash in it, a path that counts from the connection's
            folder.

    Returns:
        Its whole path; None if it is not found, or may not be executed.
    """
    if "/" in program:
        path = str(ctx.cwd / os.path.expanduser(program))
        return shutil.which(path)
    return shutil.which(program, path=_text(base_environment().get(b"PATH", b"")))


@command
async def sleep(seconds: float) -> None:
    """Do nothing for a while, on the worker; it may be given a ``timeout``.

    Args:
        seconds: How long.

    Raises:
        ValueError: If that is no time.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"sleep(): seconds must be a time, not {seconds}")
    await asyncio.sleep(seconds)


@command(role="admin", blocks=True, once=True)
def reboot() -> str:
    """Reboot the host. All jobs end with it.

    Returns:
        The command that was run for it.

    Raises:
        FileNotFoundError: If the worker's PATH has no program for that.
        RuntimeError: If it has failed; its text says why.
    """
    return _call_first(REBOOT)


@command(role="admin", blocks=True, once=True)
def shutdown() -> str:
    """Shut the host down and switch it off. All jobs end with it.

    Returns:
        The command that was run for it.

    Raises:
        FileNotFoundError: If the worker's PATH has no program for that.
        RuntimeError: If it has failed; its text says why.
    """
    return _call_first(SHUTDOWN)


@command(role="admin", once=True)
def close_server(ctx: Context, grace: float = 10.0) -> list[JobInfo]:
    """End the worker. Its jobs go on: the next worker finds them.

    From now on it starts nothing new. What it is just answering, and syncs, have
    ``grace`` seconds to come to their end; then it says goodbye and its process ends.

    Args:
        grace: Seconds.

    Returns:
        The jobs that go on.

    Raises:
        ValueError: If grace is no time.
    """
    if not 0 <= grace < math.inf:
        raise ValueError(f"close_server(): grace must be seconds, not {grace}")
    ctx.close_worker(grace)
    return [one for one in ctx.job_list() if one.outcome is None]


def _call_first(choices: tuple[tuple[str, ...], ...]) -> str:
    """Call the first program of some that is there."""
    for words in choices:
        program = shutil.which(words[0])
        if program is not None:
            return _call([program, *words[1:]])
    names = ", ".join(words[0] for words in choices)
    raise FileNotFoundError(f"none of these programs is in the PATH: {names}")


def _call(argv: list[str]) -> str:
    text = shlex.join(argv)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=POWER_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{text}: not done within {POWER_LIMIT:g} s") from None
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()[:2000]
        raise RuntimeError(f"{text}: exit status {done.returncode}: {said}")
    return text


def _hidden(name: str, value: str) -> str:
    if name in _FOLDERS:
        return value
    is_secret = looks_secret(name) or _SECRET.search(name)
    return HIDDEN if value and is_secret else _USER_IN_URL.sub(HIDDEN, value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
