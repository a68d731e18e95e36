"""How the loop hears that a child has ended: by signalfd(2), where there is that.

A handler of Python's takes longer: it interrupts the wait, writes to a socket that is
waited for, and is called besides.
"""

import ctypes
import os
import signal

__all__ = ["INHERITED_MASK", "read_signals", "watch_children"]

SIGSET = 128  # bytes of the C library's sigset_t; the kernel looks at the first eight
SIGNALS_AT_ONCE = 4096  # bytes: 32 of the kernel's notes

# What was blocked when we were started. Jobs are to have that, and not our own mask.
INHERITED_MASK = signal.pthread_sigmask(signal.SIG_BLOCK, ())


def watch_children() -> int | None:
    """Have a descriptor become readable when a child ends, in place of a signal.

    For the thread that starts all others: they inherit that the signal is blocked.

    Returns:
        The descriptor; None where there is none: the signal's handler is called then.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        mask = ctypes.byref(ctypes.create_string_buffer(SIGSET))
        libc.sigemptyset(mask)
        libc.sigaddset(mask, ctypes.c_int(signal.SIGCHLD))
        fd: int = libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None
    if fd < 0:
        return None
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    return fd


def read_signals(fd: int) -> None:
    """Take what the descriptor has: it tells that there was a signal, not how many."""
    try:
        os.read(fd, SIGNALS_AT_ONCE)
    except BlockingIOError:
        return
