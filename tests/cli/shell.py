"""Runs the command line as a user does: a process, its streams, its exit status."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

MLEPOOL = (sys.executable, "-W", "error", "-m", "mlepool")
LIMIT = 60.0  # seconds for one command on a busy machine: it fails, and never hangs


class Finished(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def mlepool(*arguments: str | bytes, stdin: str = "", **env: str) -> Finished:
    """Run a command to its end."""
    done = subprocess.run(
        [*MLEPOOL, *arguments],
        env={**os.environ, **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running(*arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command; what still runs at the end is killed."""
    with subprocess.Popen(
        [*MLEPOOL, *arguments],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str]) -> Finished:
    """Press Ctrl-C and wait for the end."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    return Finished(process.returncode, out, err)
