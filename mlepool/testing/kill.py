"""Kills a worker or its supervisor, to see that what you wrote lives through it.

A process is found by the lock that it holds on a file in the state folder, so never a
wrong one: not by its command line, nor by a number that was noted earlier. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
from pathlib import Path

__all__ = ["alive", "kill_supervisor", "kill_worker", "supervisor_pid", "worker_pid"]

# As docs/reference/state-folder.md has them: the worker may be of another version.
WORKER_LOCK = "worker.lock"
SUPERVISOR_LOCK = "supervisor.lock"
PROC = Path("/proc")
DEAD_LIMIT = 10.0  # seconds that a process may take to die of SIGKILL


def worker_pid(state_dir: str | os.PathLike[str]) -> int:
    """Find the worker that runs with a state folder.

    Raises:
        LookupError: If none runs.
        NotImplementedError: On other systems than Linux.
    """
    return _holder(Path(state_dir) / WORKER_LOCK, "worker")


def supervisor_pid(state_dir: str | os.PathLike[str]) -> int:
    """Find the supervisor that holds the jobs of a state folder.

    Raises:
        LookupError: If none runs.
        NotImplementedError: On other systems than Linux.
    """
    return _holder(Path(state_dir) / SUPERVISOR_LOCK, "supervisor")


def kill_worker(state_dir: str | os.PathLike[str]) -> int:
    """Kill a state folder's worker with SIGKILL, and wait until it is dead.

    Jobs and their supervisor go on. Nothing starts it again.

    Returns:
        Its pid. If it was your child process, it is a zombie until you wait for it.

    Raises:
        LookupError: If none runs.
        NotImplementedError: On other systems than Linux.
        PermissionError: If it is another account's.
        TimeoutError: If it is not dead after 10 s.
        ValueError: If it runs in the very process that asks for this.
    """
    return _kill(Path(state_dir) / WORKER_LOCK, "worker")


def kill_supervisor(state_dir: str | os.PathLike[str]) -> int:
    """Kill a state folder's supervisor with SIGKILL, and wait until it is dead.

    Its jobs lose their parent and the readers of their pipes: what they print next ends
    them, unless they ignore SIGPIPE. Returns and raises as :func:`kill_worker`.
    """
    return _kill(Path(state_dir) / SUPERVISOR_LOCK, "supervisor")


def alive(pid: int) -> bool:
    """Tell if a process runs; one that has ended and is not reaped yet does not.

    Raises:
        NotImplementedError: On other systems than Linux.
    """
    _need_linux()
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return False
    # The name in parentheses may hold spaces and parentheses itself; then the state.
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def _kill(lock: Path, what: str) -> int:
    pid = _holder(lock, what)
    if pid == os.getpid():
        raise ValueError(f"the {what} runs in this process")
    handle = os.pidfd_open(pid)
    try:
        # From here on the handle names one process: is it still the one we mean?
        if _holder(lock, what) == pid:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], DEAD_LIMIT)[0]:
            raise TimeoutError(f"the {what} (pid {pid}) is not dead")
    finally:
        os.close(handle)
    return pid


def _holder(lock: Path, what: str) -> int:
    """Find who holds a lock file's lock."""
    _need_linux()
    with contextlib.suppress(FileNotFoundError):
        wanted = lock.stat()
        for entry in PROC.iterdir():
            if entry.name.isdigit() and _holds(entry, wanted):
                return int(entry.name)
    raise LookupError(f"no {what} runs with the state folder {lock.parent}")


def _holds(process: Path, wanted: os.stat_result) -> bool:
    """Tell if a process has locked a file: the kernel says so in fdinfo, proc(5)."""
    try:
        names = os.listdir(process / "fd")
    except OSError:
        return False  # gone, or another account's
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat((process / "fd" / name).stat(), wanted):
                info = (process / "fdinfo" / name).read_text()
                if re.search(rf"^lock:.* FLOCK .* {process.name} ", info, re.MULTILINE):
                    return True
    return False


def _need_linux() -> None:
    if sys.platform != "linux":
        raise NotImplementedError("processes are found and killed on Linux only")
