"""Processes and ports: starting in order, memory, and ending without leftovers."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

MARK = "MLEPOOL_BENCH_FOLDER"  # in the environment of all that a session starts
START_LIMIT = 15.0  # seconds for a server to listen
END_LIMIT = 3.0  # seconds for a process to end by itself, before it is killed
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
MIB = 1024 * 1024  # bytes


class ServerError(Exception):
    """A server ended, or did not listen in time; its own words are in the log."""


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server accepts connections, 15 s at most.

    Raises:
        ServerError: If it ended, or did not listen in time.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the server ended with {server.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise ServerError(f"the server did not listen within {START_LIMIT:.0f} s")


def wait_for_socket(path: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server accepts connections at a unix socket, 15 s at most.

    Raises:
        ServerError: If it ended, or did not listen in time.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the server ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.02)
    raise ServerError(f"the server did not listen within {START_LIMIT:.0f} s")


def wait_for_size(place: Path, size: int) -> None:
    """Wait until a file, or all in a folder, has so many bytes, 15 s at most.

    Raises:
        ServerError: If it did not grow so far in time.
    """
    deadline = time.monotonic() + START_LIMIT
    while size_of_tree(place) < size:
        if time.monotonic() > deadline:
            raise ServerError(f"no {size / MIB:.0f} MiB within {START_LIMIT:.0f} s")
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, kill it after 3 s, and reap it. Ended already is fine."""
    process.terminate()
    try:
        process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return int(fields[1]) * PAGE / MIB


def marked(folder: Path) -> list[int]:
    """Return the pids of all that was started for a session's folder, but our own.

    They are known by the folder in their environment or arguments, which says more
    than parentage: a daemon leaves its parent, and keeps these.
    """
    text = os.fsencode(folder)
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and text in _described(pid)]


def _described(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        process = Path(f"/proc/{pid}")
        environment = (process / "environ").read_bytes()
        return environment + (process / "cmdline").read_bytes()
    return b""


def sweep(folder: Path) -> None:
    """Wait a moment for all of a session's processes to end, then kill those left."""
    if not Path("/proc/self/environ").exists():
        return  # not Linux: the process group has been ended already
    deadline = time.monotonic() + END_LIMIT
    while marked(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in marked(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def size_of_tree(folder: Path) -> int:
    """Return the bytes in all files below a folder, also while files come and go.

    Or those of one file.
    """
    total = os.lstat(folder).st_size if folder.is_file() else 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
