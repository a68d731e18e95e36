"""Exit statuses: what a command's end is to the shell."""

from __future__ import annotations

import signal
from collections.abc import Callable

from mlepool.client.listening.facts import Status
from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import WorkerBusyError

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "SIGNAL_BASE",
    "TIMED_OUT",
    "UNKNOWN",
    "exit_status",
]

FAILED = 1
BUSY = 75  # as sysexits.h has it for what may be tried again later
NOT_EXECUTABLE = 126  # as shells do, and likewise the next
NOT_FOUND = 127
SIGNAL_BASE = 128  # 128 + n for a signal n, as shells do
UNKNOWN = 255  # as ssh: the command's own status is not known
INTERRUPTED = SIGNAL_BASE + signal.SIGINT
TIMED_OUT = SIGNAL_BASE + signal.SIGTERM


def exit_status(listener: AsyncListener, complain: Callable[[str], None]) -> int:
    """Give the exit status that tells how a command has ended.

    Args:
        listener: The command, which has ended.
        complain: Told why there is no exit status of its own, if there is none.
    """
    if listener.status is Status.TIMED_OUT:
        return TIMED_OUT
    code = listener.exit_code
    if code is not None:
        return SIGNAL_BASE - code if code < 0 else code
    if listener.ok:
        return 0  # a command of the worker's own
    complain(str(listener.error))
    if listener.status is not Status.FAILED:
        return UNKNOWN
    kinds = {
        FileNotFoundError: NOT_FOUND,
        OSError: NOT_EXECUTABLE,
        WorkerBusyError: BUSY,
    }
    for kind, status in kinds.items():
        if isinstance(listener.error, kind):
            return status
    return FAILED
