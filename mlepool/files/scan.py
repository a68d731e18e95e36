"""What is in a tree on disk, seen from its root's descriptor.

Nothing is followed: each folder is opened below the one that it is in, and what is a
symbolic link by then is not opened. So no race leads out of the tree, and a path may be
longer than the system takes at once.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from mlepool.files.base import Problem, Scan
from mlepool.files.ignore import Rules
from mlepool.files.yard import is_yard
from mlepool.tree import FILE, FOLDER, LINK, MAX_PATH, MAX_TIME, Entry

__all__ = ["IGNORE_FILES", "MAX_IGNORE_FILE", "check_time", "scan_tree"]

IGNORE_FILES = (".gitignore", ".mlepoolignore")
MAX_IGNORE_FILE = 1024 * 1024  # bytes; patterns are held in memory, and by both ends
KIND_BITS, MODE_BITS = 0o170000, 0o7777
DOT = ord(".")
MAX_OPEN = 64  # descriptors of folders at a time, however deep a tree is

_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
# Not on every platform: Windows has none of them, nor dir_fd, and syncs no files.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW | _CLOEXEC
# A pipe that took the file's place is not waited for.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW | _CLOEXEC

_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: LINK,
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


class _Listing(NamedTuple):
    """What is in one folder; ``left_out`` counts what isn't in ``entries``."""

    entries: list[Entry]
    left_out: int
    rules: Rules


class _Level:
    """One of the folders that are being looked at, each in the one before."""

    def __init__(self, name: bytes, fd: int, listing: _Listing) -> None:
        self.name = name
        self.fd = fd  # -1 while it is closed
        self.rules = listing.rules
        self.rest: Iterator[Entry] = iter(listing.entries)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def scan_tree(
    root_fd: int,
    *,
    exclude: Sequence[str] = (),
    ignore_files: Sequence[str] = IGNORE_FILES,
    own: Collection[tuple[int, int]] = (),
) -> Scan:
    """List a tree: files, folders and links, by path; blocking.

    What vanishes meanwhile is left out. What can't be read, and what is neither file,
    folder nor link, is a problem and goes on; an ignore file that can't be read makes
    a problem of its folder, rather than give away what it hides.

    Args:
        root_fd: The root, a folder that is open, with ``O_PATH`` or without; it stays
            open, and its position does not matter.
        exclude: Patterns of what to leave out, as lines of a ``.gitignore`` at the
            root that is heard first.
        ignore_files: Names of files that hold patterns for their folder and below;
            those in deeper folders, and the later names, are heard first.
        own: Device and inode of folders of ours that are left out wherever they are,
            as our hidden folders are.

    Raises:
        OSError: If the root can't be read.
    """
    return _Scanner(root_fd, ignore_files, own).run(Rules(exclude))


class _Scanner:
    """One walk through a tree, without recursion: trees are deeper than Python."""

    def __init__(
        self,
        root_fd: int,
        ignore_files: Sequence[str],
        own: Collection[tuple[int, int]],
    ) -> None:
        self._root_fd = root_fd
        self._ignore_files = tuple(ignore_files)
        self._own = frozenset(own)
        self._levels: list[_Level] = []
        self._modes: dict[int, tuple[str, int]] = {}  # each parted once
        self._entries: list[Entry] = []
        self._problems: list[Problem] = []
        self._patterns: list[tuple[bytes, bytes]] = []

    def run(self, rules: Rules) -> Scan:
        try:
            self._enter(b".", above=self._root_fd, path=b"", rules=rules)
            while self._levels:
                self._go_on()
        finally:
            for level in self._levels:
                level.close()
        return Scan(self._entries, self._problems, patterns=self._patterns)

    def _go_on(self) -> None:
        """Take what is next in the deepest folder, up to the next folder in it."""
        level = self._levels[-1]
        for entry in level.rest:
            if entry.kind == FOLDER:
                self._descend(level, entry)
                return
            self._entries.append(entry)
        level.close()
        self._levels.pop()

    def _descend(self, level: _Level, entry: Entry) -> None:
        name = entry.path.rpartition(b"/")[2]
        place = len(self._entries)
        self._entries.append(entry)
        try:
            self._reopen()
            rules = level.rules.enter(name)
            left_out = self._enter(name, above=level.fd, path=entry.path, rules=rules)
        except FileNotFoundError:
            self._entries.pop()
            return
        except OSError as exc:
            self._add_problem(entry.path, exc)
            left_out = 1
        if left_out:
            self._entries[place] = msgspec.structs.replace(entry, size=left_out)

    def _enter(self, name: bytes, *, above: int, path: bytes, rules: Rules) -> int:
        """Go into a folder; give how many things in it are left out."""
        fd = os.open(name, _LIST, dir_fd=above)
        try:
            listing = self._list(fd, path, rules)
        except BaseException:
            os.close(fd)
            raise
        self._levels.append(_Level(name, fd, listing))
        if len(self._levels) > MAX_OPEN:
            self._levels[-MAX_OPEN - 1].close()
        return listing.left_out

    def _reopen(self) -> None:
        """Open the deepest folder again if it was closed, and those right above it."""
        levels, fd = self._levels, self._root_fd
        if levels[-1].fd >= 0:
            return
        for number, level in enumerate(levels):
            if level.fd < 0:
                level.fd = os.open(level.name, _LIST, dir_fd=fd)
            fd = level.fd
            if number >= MAX_OPEN:
                levels[number - MAX_OPEN].close()

    def _list(self, fd: int, path: bytes, rules: Rules) -> _Listing:
        with os.scandir(fd) as found:
            things = list(found)
        self._read_ignore_files(fd, path, rules=rules, things=things)
        prefix = path + b"/" if path else b""
        hides = rules.hides if rules else None
        entries: list[Entry] = []
        left_out = 0
        for thing in things:
            name = thing.name.encode(*_NAMES)
            is_hidden = name[0] == DOT and is_yard(name)
            if hides and not is_hidden:
                is_hidden = hides(name, is_folder=thing.is_dir(follow_symlinks=False))
            if is_hidden:
                left_out += 1
                continue
            try:
                entry = self._look_at(fd, thing, prefix + name)
            except FileNotFoundError:
                continue
            except OSError as exc:
                self._add_problem(prefix + name, exc)
                entry = None
            if entry is None:
                left_out += 1
            else:
                entries.append(entry)
        entries.sort(key=_path_of)
        return _Listing(entries, left_out, rules)

    def _look_at(self, fd: int, thing: os.DirEntry[str], path: bytes) -> Entry | None:
        """Describe something; None if it is a folder of ours."""
        if len(path) > MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, f"a path of {len(path)} bytes")
        info = thing.stat(follow_symlinks=False)
        mode, mtime_ns = info.st_mode, info.st_mtime_ns
        if abs(mtime_ns) > MAX_TIME:
            check_time(info)  # says what is wrong with it
        kind, bits = self._modes.get(mode) or self._split(mode)
        if kind is FILE:
            return Entry(path, FILE, bits, info.st_size, mtime_ns)
        if kind is FOLDER:
            if (info.st_dev, info.st_ino) in self._own:
                return None
            return Entry(path, FOLDER, bits, 0, mtime_ns)
        if kind is LINK:
            says = os.fsencode(os.readlink(thing.name, dir_fd=fd))
            return Entry(path, LINK, 0, 0, mtime_ns, says)
        raise OSError(errno.EINVAL, f"{kind} is not synced")

    def _split(self, mode: int) -> tuple[str, int]:
        """Part a mode: the kind, or what is said of it, and the permission bits."""
        kind = _KINDS.get(mode & KIND_BITS, "a special file")
        self._modes[mode] = kind, mode & MODE_BITS
        return self._modes[mode]

    def _read_ignore_files(
        self,
        fd: int,
        path: bytes,
        *,
        rules: Rules,
        things: list[os.DirEntry[str]],
    ) -> None:
        names = self._ignore_files
        here = {
            thing.name
            for thing in things
            if thing.name in names and thing.is_file(follow_symlinks=False)
        }
        for name in names:
            if name in here:
                text = _read_small(fd, name)
                rules.add(text)
                self._patterns.append((path, text))

    def _add_problem(self, path: bytes, exc: OSError) -> None:
        self._problems.append(Problem(path, exc.strerror or str(exc)))


def check_time(info: os.stat_result, path: str | None = None) -> None:
    """Check that the time of something can be said to the other side.

    Args:
        info: How it looks.
        path: Its path, for the error.

    Raises:
        OSError: If it can't.
    """
    if abs(info.st_mtime_ns) > MAX_TIME:
        text = "its time is not in the years 1677 to 2262: that is not synced"
        raise OSError(errno.EOVERFLOW, text, path)


_path_of = attrgetter("path")


def _read_small(folder_fd: int, name: str) -> bytes:
    """Read an ignore file; one that has become something else is empty, as for git.

    Raises:
        OSError: If it can't be read, or is too long.
    """
    try:
        fd = os.open(name, _READ, dir_fd=folder_fd)
    except FileNotFoundError:
        return b""
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        text = file.read(MAX_IGNORE_FILE + 1)
    if len(text) > MAX_IGNORE_FILE:
        raise OSError(errno.EFBIG, f"{name} is over {MAX_IGNORE_FILE} bytes")
    return text
