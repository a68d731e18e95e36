"""The supervisor's process: takes its state folder for itself, and keeps jobs there."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mlepool.supervisor.files import Syncer
from mlepool.supervisor.keeper import Keeper
from mlepool.supervisor.ledger import Ledger
from mlepool.supervisor.messages import JOBS_FOLDER, LOCK_FILE, READY, SOCKET_FILE
from mlepool.supervisor.processes import become_subreaper
from mlepool.supervisor.signals import watch_children
from mlepool.supervisor.stop import POLL
from mlepool.supervisor.strays import Stray, all_jobs, find_strays

__all__ = ["main"]

logger = logging.getLogger("mlepool.supervisor")

LOCK_LIMIT = 2.0  # seconds that a supervisor before us may take to be gone


def main(arguments: Sequence[str]) -> int:
    """Run a supervisor for a state folder until there is nothing left to do."""
    folder = Path(arguments[0])
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    lock = _take_lock(folder)
    if lock is None:
        logger.error("another supervisor serves %s", folder)
        return 1
    jobs = folder / JOBS_FOLDER
    jobs.mkdir(mode=0o700, exist_ok=True)
    become_subreaper()
    waking, wakeup = socket.socketpair()
    _catch_signals(waking)
    children = watch_children()
    os.chdir(folder)  # a relative name keeps the socket's path short enough to bind
    ledger = Ledger(jobs)
    strays = _look_back(jobs, ledger)
    listener = _listen()
    os.write(sys.stdout.fileno(), READY)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    syncer = Syncer(jobs, functools.partial(_wake, waking))
    gc.freeze()  # what is there by now stays: it is not looked at again and again
    try:
        keeper = Keeper(
            jobs, listener, syncer=syncer, ledger=ledger, strays=strays, lock=lock
        )
        keeper.run(wakeup, children)
    finally:
        Path(SOCKET_FILE).unlink(missing_ok=True)
        syncer.close()
        ledger.close()
    return 0


def _look_back(jobs: Path, ledger: Ledger) -> list[Stray]:
    """Find what a supervisor before us has left, if it was killed."""
    # One that ends by itself removes its socket.
    was_killed = Path(SOCKET_FILE).exists()
    if ledger.found is not None:
        strays = find_strays(jobs, ledger.found)
    else:
        # A release before kept none, or it is damaged: each journal has to be read.
        strays = find_strays(jobs, all_jobs(jobs) if was_killed else ())
    ledger.keep([stray.id for stray in strays])
    return strays if was_killed else []


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    Path(SOCKET_FILE).unlink(missing_ok=True)
    listener.bind(SOCKET_FILE)
    os.chmod(SOCKET_FILE, 0o600)
    listener.listen()
    return listener


def _take_lock(folder: Path) -> int | None:
    """Take the folder for ourselves; wait for a supervisor that is just ending.

    Returns:
        A descriptor that holds the lock; None if somebody else has it.
    """
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_LIMIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL)
        else:
            return lock


def _wake(waking: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):  # it is full: the loop wakes up anyway
        waking.send(b"w")


def _catch_signals(waking: socket.socket) -> None:
    """Have SIGCHLD wake the loop; leave ending to the work being done."""
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
