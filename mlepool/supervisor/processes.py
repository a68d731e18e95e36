"""Processes: proving who one is, finding a job's tree, signalling.

What depends on the platform stands here and in :mod:`mlepool.supervisor.spawn`. Linux
is first-class; where there is no ``/proc`` a job's process group stands for its tree.
"""

import ctypes
import functools
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "JOB_VARIABLE",
    "Process",
    "become_subreaper",
    "boot_id",
    "boot_ticks",
    "command_line",
    "identify",
    "ignores",
    "members",
    "read_stamp",
    "relatives",
    "send_signal",
    "signal_group",
    "stamp_of",
]

JOB_VARIABLE = b"MLEPOOL_JOB"  # in a job's environment: its id
STATE_VARIABLE = b"MLEPOOL_JOB_STATE_DIR"  # ... and the state folder of its worker
STAMP = frozenset((JOB_VARIABLE, STATE_VARIABLE))
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
PROC = Path("/proc")
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
TICKS = os.sysconf("SC_CLK_TCK")  # of that clock in a second


class Process(NamedTuple):
    """A process as /proc/PID/stat tells of it: proc(5).

    Attributes:
        start_ticks: When it began, in clock ticks since boot. With the pid (and the
            boot) this names one process for ever; a pid alone is used again.
        image: Where its program and its stack are: others after each execve(2), if
            we may know it.
    """

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    is_zombie: bool
    image: tuple[bytes, bytes]


def boot_ticks() -> int:
    """Give the clock by which processes' start times go: ticks since boot."""
    return int(time.clock_gettime(CLOCK) * TICKS)


def ignores(process: Process, number: int) -> bool:
    """Tell if a process ignores a signal, so that waiting for it is in vain."""
    try:
        text = (PROC / str(process.pid) / "status").read_text()
        mask = text.partition("SigIgn:")[2].split(maxsplit=1)[0]
    except (OSError, IndexError):
        return False
    return bool(int(mask, 16) >> (number - 1) & 1)


def become_subreaper() -> bool:
    """Have orphaned descendants become our children, not init's: prctl(2)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def boot_id() -> str:
    """Name this boot of the machine; empty where the system doesn't say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def identify(pid: int) -> Process | None:
    """Read who a pid is now; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        is_zombie=fields[0] in (b"Z", b"X"),
        image=(fields[23], fields[25]),
    )


def command_line(pid: int) -> str:
    """Give a process's command line, for people; empty if it is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def stamp_of(job_id: str, folder: Path) -> dict[bytes, bytes]:
    """Make what the processes of a job are known by, in their environment.

    Its id alone does not do: of two workers on a machine each may have a job of that
    id, as when a sweep begins a run again whose first host was lost.

    Args:
        job_id: The job's id.
        folder: The state folder of its worker, by any name.
    """
    return {JOB_VARIABLE: job_id.encode(), STATE_VARIABLE: _true_name(folder)}


@functools.lru_cache
def _true_name(folder: Path) -> bytes:
    return os.fsencode(os.path.realpath(folder))


def read_stamp(pid: int) -> dict[bytes, bytes]:
    """Read what a process is stamped with; nothing if we may not know."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return {}
    pairs = (one.partition(b"=") for one in environment.split(b"\0"))
    return {name: value for name, _, value in pairs if name in STAMP}


def members(
    stamp: Mapping[bytes, bytes],
    leader: int,
    *,
    others: Iterable[int],
    inside: Iterable[int] = (),
) -> list[Process]:
    """Find the living processes of a job.

    Only descendants of this process count: as a subreaper it stays an ancestor of
    all that its jobs start, so a stranger with a recycled number is never among them.

    Args:
        stamp: What to look for in environments.
        leader: The pid of the job's first process, which may be dead by now.
        others: Leaders of other jobs, whose sessions are not this job's.
        inside: Who is in the job's control group.
    """
    ours = _descendants(os.getpid())
    strangers = set(others)
    found: dict[int, Process] = {}
    for process in ours:  # parents come before their children
        if process.session in strangers:
            continue
        if (
            process.session == leader
            or process.parent in found
            or read_stamp(process.pid) == stamp
        ):
            found[process.pid] = process
    for pid in set(inside) - set(found):
        someone = identify(pid)
        if someone is not None:
            found[pid] = someone
    return [process for process in found.values() if not process.is_zombie]


def relatives(stamp: Mapping[bytes, bytes], leader: int) -> list[Process]:
    """Find the living processes of a job that another supervisor has started.

    Args:
        stamp: What to look for in environments.
        leader: The pid of the job's first process; 0 if it is gone.
    """
    found: dict[int, Process] = {}
    for process in _descendants(0):
        is_near = leader and leader in (process.session, process.pid)
        if is_near or read_stamp(process.pid) == stamp:
            found[process.pid] = process
    return [one for one in found.values() if not one.is_zombie]


def _descendants(root: int) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for name in os.listdir(PROC):
        if name.isdigit():
            process = identify(int(name))
            if process is not None:
                children.setdefault(process.parent, []).append(process)
    found: list[Process] = list(children.get(root, ()))
    for process in found:  # grows while it is walked
        found.extend(children.get(process.pid, ()))
    return found


def send_signal(process: Process, number: int) -> bool:
    """Signal exactly this process, never one that has taken over its pid.

    Returns:
        False if it is gone.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The handle now names one process: compare it with the one that is meant.
        now = identify(process.pid)
        if now is None or now.start_ticks != process.start_ticks:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def signal_group(process: Process, number: int) -> bool:
    """Signal all of a group at one moment, as a terminal does.

    Args:
        process: One that was found since children were last reaped: if it is a child
            of ours, nobody else has its number until it is reaped.
        number: The signal's.

    Returns:
        False if it is not a child of ours that leads a group: nobody is signalled then.
    """
    if process.parent != os.getpid() or process.group != process.pid:
        return False
    try:
        os.killpg(process.group, number)
    except OSError:
        return False
    return True
