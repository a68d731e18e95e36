"""Starting a job's process.

With posix_spawn(3), which starts it as vfork(2) does: its price does not grow with
ours, and it takes half the time of ``subprocess.Popen``.
"""

import contextlib
import errno
import fcntl
import functools
import os
import signal
import termios
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlepool.supervisor.cgroups import Slot
from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.posix_spawn import posix_spawn
from mlepool.supervisor.processes import boot_ticks
from mlepool.supervisor.signals import INHERITED_MASK

__all__ = ["Started", "grow_pipe", "start"]

DEFAULT_PATH = os.defpath.encode()
OWN_PATH = os.environb.get(b"PATH")  # where posix_spawnp(3) looks
INPUT_IS_UTF8 = 0o40000  # IUTF8 of termios(3): a backspace removes a whole character
PIPE_SIZE = 1024 * 1024  # bytes; what an unprivileged process may ask for on Linux

# Python ignores two signals that a program expects to be told of. Who ignored another
# one before us wants it ignored. The rest is named because the C library looks first at
# each signal that is not, and our loop waits meanwhile.
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
_RESTORED = tuple(
    int(number)
    for number in signal.valid_signals()
    if number in _PYTHON_IGNORES or signal.getsignal(number) != signal.SIG_IGN
)


class Started(NamedTuple):
    """A new process, and our ends of its pipes; ``stdin`` is -1 without one.

    Of a process with a terminal both ``stdin`` and ``stdout`` are the terminal's other
    side, each to be closed by itself, and ``stderr`` is -1.

    Attributes:
        born: It was started between these two times, in clock ticks since boot: with
            its pid that names one process for ever.
    """

    pid: int
    stdin: int
    stdout: int
    stderr: int
    born: tuple[int, int]


def start(
    order: Spawn,
    environment: Mapping[bytes, bytes],
    *,
    slot: Slot | None = None,
    aside: bool = False,
) -> Started:
    """Start a process in a session of its own.

    The thread's working directory is the other's for a moment.

    Args:
        order: What to start.
        environment: All that it gets.
        slot: The control group to start it in; None for ours.
        aside: True to let other threads go on meanwhile.

    Raises:
        OSError: As execve(2) and chdir(2) say, with ``filename``.
        ValueError: For a NUL in the arguments or environment.
    """
    if order.terminal is not None:
        return _start_at_terminal(order, environment, order.terminal, slot=slot)
    ends: list[int] = []
    try:
        for _ in range(3 if order.stdin else 2):
            ends += os.pipe()
        before = boot_ticks()
        with slot or contextlib.nullcontext():
            pid = _spawn(order, environment, _pipes(order, ends), aside=aside)
        born = (before, boot_ticks())
    except BaseException:
        for end in ends:
            os.close(end)
        raise
    ours = [ends[0], ends[2], *ends[5:]]
    for end in (ends[1], ends[3], *ends[4:5]):
        os.close(end)
    for end in ours:
        os.set_blocking(end, False)
    return Started(pid, ours[2] if order.stdin else -1, ours[0], ours[1], born)


def _start_at_terminal(
    order: Spawn,
    environment: Mapping[bytes, bytes],
    size: tuple[int, int],
    *,
    slot: Slot | None,
) -> Started:
    ends = list(os.openpty())
    try:
        ours, its = ends
        ends.append(stdin := os.dup(ours))
        _set_up(its, size)
        # Opened in the new session, it becomes that one's controlling terminal.
        actions = (
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(its), os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        )
        before = boot_ticks()
        with slot or contextlib.nullcontext():
            pid = _spawn(order, environment, actions)
        born = (before, boot_ticks())
    except BaseException:
        for end in ends:
            os.close(end)
        raise
    os.close(its)
    os.set_blocking(ours, False)  # and with it its copy
    return Started(pid, stdin, ours, -1, born)


def _set_up(terminal: int, size: tuple[int, int]) -> None:
    attributes = termios.tcgetattr(terminal)
    attributes[0] |= INPUT_IS_UTF8
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    termios.tcsetwinsize(terminal, size)


def _pipes(order: Spawn, ends: list[int]) -> tuple[Any, ...]:
    return (
        (os.POSIX_SPAWN_DUP2, ends[4] if order.stdin else _null(), 0),
        (os.POSIX_SPAWN_DUP2, ends[1], 1),
        (os.POSIX_SPAWN_DUP2, ends[3], 2),
    )


def _spawn(
    order: Spawn,
    environment: Mapping[bytes, bytes],
    actions: tuple[Any, ...],
    *,
    aside: bool = False,
) -> int:
    home = _home()
    try:
        os.chdir(order.cwd)  # posix_spawn has no other way to say where
        program = _find(order.argv[0], environment.get(b"PATH", DEFAULT_PATH))
        if aside:
            return posix_spawn(
                program,
                order.argv,
                environment,
                duplicates=[action[1:] for action in actions],
                defaults=_RESTORED,
                mask=INHERITED_MASK,
            )
        return os.posix_spawnp(
            program,
            order.argv,
            environment,
            file_actions=actions,
            setsid=True,
            setsigdef=_RESTORED,
            setsigmask=INHERITED_MASK,
        )
    finally:
        os.fchdir(home)


def _find(program: bytes, path: bytes) -> bytes:
    """Find a program as execvp(3) does, on the PATH that it will have itself.

    Where that is ours, the C library does it, in a quarter of the time.

    Raises:
        PermissionError: If there are such files, but none may be executed.
        FileNotFoundError: If there is none.
    """
    if b"/" in program or (program and path == OWN_PATH):
        return program
    candidates = [folder + program for folder in _folders(path)]
    for one in candidates:
        if os.access(one, os.X_OK) and os.path.isfile(one):
            return one
    denied = any(map(os.path.isfile, candidates))
    number = errno.EACCES if denied else errno.ENOENT
    raise OSError(number, os.strerror(number), program)


@functools.lru_cache
def _folders(path: bytes) -> list[bytes]:
    return [(folder or b".") + b"/" for folder in path.split(b":")]


@functools.cache
def _home() -> int:
    """Open the folder that we are in, which stays the same."""
    return os.open(".", os.O_RDONLY | os.O_CLOEXEC)


@functools.cache
def _null() -> int:
    """Open the empty input once for all jobs."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def grow_pipe(fd: int) -> None:
    """Let a busy pipe hold more, so that its writer is woken up less often."""
    with contextlib.suppress(OSError, AttributeError):  # over the user's pipe quota
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
