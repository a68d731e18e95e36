"""The lock on a state folder: it has one worker at most."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mlepool.errors import WorkerError

__all__ = ["LOCK_FILE", "take_lock"]

LOCK_FILE = "worker.lock"


def take_lock(folder: Path) -> int:
    """Make a state folder, if need be, and lock it.

    Returns:
        The descriptor that holds the lock, until it is closed.

    Raises:
        WorkerError: If another worker has it, or it is not usable.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise WorkerError(f"the state folder {folder} is not usable: {exc}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise WorkerError(
            f"another worker runs with the state folder {folder}; "
            "give this one another with --state-dir"
        ) from None
    return lock
