"""posix_spawn(3) that lets other threads go on while it waits for the new process.

It waits until the process has its program: on a busy machine five times as long as all
that it does itself. ``os.posix_spawn`` holds the interpreter meanwhile.
"""

import ctypes
import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["posix_spawn"]

ROOM = 1024  # bytes for a structure of the C library's: the largest known takes 336
SETSIGDEF, SETSIGMASK, SETSID = 0x04, 0x08, 0x80  # flags of glibc and musl


class _Room(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint64 * (ROOM // 8)),)


def posix_spawn(
    path: bytes,
    argv: Sequence[bytes],
    environment: Mapping[bytes, bytes],
    *,
    duplicates: Iterable[tuple[int, int]],
    defaults: tuple[int, ...],
    mask: Collection[int] = (),
) -> int:
    """Start a process in a session of its own.

    Args:
        path: The program; without a slash it is looked for on our own PATH.
        argv: Its arguments.
        environment: All that it gets.
        duplicates: Descriptors, and which ones they are to be in the process.
        defaults: Signals that it is not to ignore.
        mask: Signals that it has blocked.

    Raises:
        OSError: As execve(2) says, with ``filename``.
        ValueError: For a NUL in the arguments or environment.
    """
    libc, pid, actions = _libc(), ctypes.c_int(), ctypes.byref(_Room())
    variables = [b"%b=%b" % pair for pair in environment.items()]
    if b"\0" in b"".join((path, *argv, *variables)):
        raise ValueError("embedded null byte")
    libc.posix_spawn_file_actions_init(actions)
    for source, target in duplicates:
        libc.posix_spawn_file_actions_adddup2(actions, source, target)
    number = libc.posix_spawnp(
        ctypes.byref(pid),
        path,
        actions,
        ctypes.byref(_attributes(defaults, tuple(mask))),
        _words(argv),
        _words(variables),
    )
    libc.posix_spawn_file_actions_destroy(actions)
    if number:
        raise OSError(number, os.strerror(number), path)
    return pid.value


def _words(words: Sequence[bytes]) -> Any:
    return (ctypes.c_char_p * (len(words) + 1))(*words)


@functools.cache
def _attributes(defaults: tuple[int, ...], mask: tuple[int, ...]) -> _Room:
    """Make what all processes are started with."""
    libc, attributes = _libc(), _Room()
    made = ctypes.byref(attributes)
    libc.posix_spawnattr_init(made)
    libc.posix_spawnattr_setsigdefault(made, ctypes.byref(_signals(defaults)))
    libc.posix_spawnattr_setsigmask(made, ctypes.byref(_signals(mask)))
    flags = SETSIGDEF | SETSIGMASK | SETSID
    libc.posix_spawnattr_setflags(made, ctypes.c_short(flags))
    return attributes


def _signals(numbers: tuple[int, ...]) -> _Room:
    libc, signals = _libc(), _Room()
    libc.sigemptyset(ctypes.byref(signals))
    for number in numbers:
        libc.sigaddset(ctypes.byref(signals), number)
    return signals


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
