"""Where a client's file commands may go, and a way there that nobody can bend.

A path is resolved first, links and ``..`` and all, and what comes of that is judged.
Then it is opened one part after the other, following no link any more: who swaps a
folder for a link in between gets an error, and nothing outside is touched.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlepool.files.descent import is_inside, open_real
from mlepool.tree import MAX_PATH

__all__ = ["FilePath", "Jail", "Place", "as_path", "check_roots", "named"]

FilePath = Any  # str or bytes: no annotation that msgspec knows says that

# A link that was swapped in is not followed, a pipe not waited for.
_SAFELY = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


# There the keys are, too, in memory and environments; what was opened can be written.
_OF_PROCESSES = re.compile(rb"/proc/(\d+|kcore)(/|\Z)")


class Place(NamedTuple):
    """Something in a folder that is open: it need not exist.

    Attributes:
        fd: The folder's descriptor.
        name: What it is called there.
        real: Its whole path, without links.
    """

    fd: int
    name: bytes
    real: bytes

    @property
    def path(self) -> str:
        """The whole path, for people."""
        return shown(self.real)

    def stat(self) -> os.stat_result:
        """Look at it, at a link itself."""
        return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)

    def open(self, flags: int, mode: int = 0o666) -> int:
        """Open it, if it is no link; who calls closes."""
        return os.open(self.name, flags | _SAFELY, mode, dir_fd=self.fd)


class Jail:
    """The paths that one client's file commands may use.

    Args:
        base: What relative paths count from.
        limits: Sets of folders: a path must be in a folder of each, or be one. An
            empty set allows any.
        own: The worker's own folders, with its keys and tokens: nothing in them, nor
            what the kernel shows of processes' memory. None at all: an admin's.
    """

    def __init__(
        self,
        base: Path,
        *,
        limits: Iterable[Sequence[Path]] = (),
        own: Iterable[Path] = (),
    ) -> None:
        self._base = os.fsencode(base)
        self._limits = [tuple(one) for one in limits if one]
        self._own_folders = tuple(own)

    def resolve(self, path: Any, *, follow: bool = True) -> bytes:
        """Give a path without links, which may be used.

        Args:
            path: Relative ones count from the base; ``~`` is the account's home.
            follow: False to leave the last part as it is, should it be a link.

        Raises:
            TypeError: If it is no path; ValueError, if it can't be one.
            PermissionError: If it leads to where this client may not go.
        """
        whole = os.path.join(self._base, os.path.expanduser(as_path(path)))
        folder, name = os.path.split(whole.rstrip(b"/"))
        if follow or name in {b"", b".", b".."}:
            real = os.path.realpath(whole)
        else:
            real = os.path.join(os.path.realpath(folder), name)
        self._check(real, whole)
        return real

    @contextlib.contextmanager
    def at(
        self, path: Any, *, follow: bool = True, goes: bool = False
    ) -> Iterator[Place]:
        """Open the folder that something is in, for as long as it is worked with.

        An OSError within names the path, whatever it was about.

        Args:
            path: As of :meth:`resolve`.
            follow: As of :meth:`resolve`.
            goes: True if it is to be there no more: then it can't be an allowed
                folder itself, nor hold one of the worker's own.

        Raises:
            OSError: If its folder is not there; PermissionError as of resolve().
        """
        real = self.resolve(path, follow=follow)
        if goes:
            self.check_whole(real)
            self._check(os.path.dirname(real), real)
        with self.placed(real) as place:
            yield place

    @contextlib.contextmanager
    def placed(self, real: bytes) -> Iterator[Place]:
        """As :meth:`at`, of a path that was resolved here."""
        folder, name = os.path.split(real)
        with named(real):
            fd = open_real(folder)
            try:
                yield Place(fd, name or b".", real)
            finally:
                os.close(fd)

    def check_whole(self, real: bytes) -> None:
        """Check that all that is in a folder may be taken.

        Raises:
            PermissionError: If one of the worker's own folders is in it.
        """
        if any(is_inside(one, real) for one in self._own):
            text = "the worker's own folder is in it"
            raise PermissionError(errno.EACCES, text, shown(real))

    def is_open(self, real: bytes) -> bool:
        """Tell if a path without links, below one that is open, is open, too."""
        if self._own and _OF_PROCESSES.match(real):
            return False
        return not any(is_inside(real, one) for one in self._own)

    @functools.cached_property
    def _own(self) -> list[bytes]:
        return _real_paths(self._own_folders)

    def _check(self, real: bytes, path: bytes) -> None:
        for roots in self._limits:
            check_roots(real, roots, path)
        if not self.is_open(real):
            text = "the worker's own folder, or a process's: for admins only"
            raise PermissionError(errno.EACCES, text, shown(path))


def check_roots(real: bytes, roots: Sequence[Path], path: bytes) -> None:
    """Check that a real path is in one of some folders, or is one.

    Args:
        real: A path without links.
        roots: The folders; none: anywhere.
        path: What the client calls it.

    Raises:
        PermissionError: If it is not.
    """
    if roots and not any(is_inside(real, one) for one in _real_paths(roots)):
        text = "not inside the folders that are open to clients"
        raise PermissionError(errno.EACCES, text, shown(path))


def as_path(path: Any) -> bytes:
    """Give a client's path as the system takes it.

    Raises:
        TypeError: If it is neither str nor bytes.
        ValueError: If it is empty or over 64 KiB long, or has a NUL in it.
    """
    if not isinstance(path, str | bytes):
        raise TypeError(f"a path is str or bytes, not {type(path).__name__}")
    raw = os.fsencode(path)
    if not 0 < len(raw) <= MAX_PATH or b"\0" in raw:
        raise ValueError(f"not a path: {path[:200]!r}")
    return raw


def shown(path: bytes) -> str:
    """Give a path as text that can be sent; what is no text in it becomes U+FFFD."""
    return path.decode("utf-8", "replace")


@contextlib.contextmanager
def named(real: bytes) -> Iterator[None]:
    """Have an OSError of what is done within name a path, if it names no whole one."""
    try:
        yield
    except OSError as exc:
        if exc.errno is None or str(exc.filename or "").startswith("/"):
            raise
        raise OSError(exc.errno, exc.strerror, shown(real)) from exc


def _real_paths(folders: Sequence[Path]) -> list[bytes]:
    return [os.path.realpath(os.fsencode(one)) for one in folders]
