"""Does at once what a target was told: nothing in the tree has changed before.

What concerns one file is a problem of that file, and the rest goes on. At any moment
each file is the old or the new one: it is renamed into its place when all of it is
there, with its mode and time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVarTuple

import msgspec

from mlepool.files.base import Problem
from mlepool.files.descent import CLOSED, Root, is_inside
from mlepool.files.moving import place
from mlepool.files.proofs import file_clock, pack_proof
from mlepool.files.staged import Staged
from mlepool.files.trash import Trash
from mlepool.tree import FILE, Entry, order_of

__all__ = ["Commit", "Work"]

Ts = TypeVarTuple("Ts")

LINK_NAME = b"link"  # in the stage folder; files have numbers
ACCESS = stat.S_IRWXU
# Of disks on which links can't be given times: what they say counts more.
NO_LINK_TIMES = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
LARGE = 1 << 20  # bytes that take longer to read than to wait for the clock of files
TICK = 0.002  # seconds; that clock has ticks of 1 to 10 ms
MOST_TICKS = 10  # waited for; a server may have another clock


class Work(msgspec.Struct):
    """What is to be done, by path: what was told twice is done once.

    Attributes:
        folders: To be there, with their mode and mtime.
        links: To be there.
        touched: To get their mode and mtime.
        deleted: To go to the trash; the values mean nothing.
    """

    folders: dict[bytes, Entry] = {}
    links: dict[bytes, Entry] = {}
    touched: dict[bytes, Entry] = {}
    deleted: dict[bytes, None] = {}


class Placed(NamedTuple):
    """A file that is in the tree now: its entry, and what is known of its content."""

    entry: Entry
    file: Staged


class Commit:
    """Does it, once.

    Args:
        tree: Where.
        there: What the scan has found in it.
        stage: The descriptor of the folder with the staged files.
        trash: Takes what is deleted.
        keep: Told of a file that is about to be replaced: the tree, its
            path, and how it looks.
        closed: Paths of folders in it that stay as they are, with all that is in them.

    Attributes:
        placed: Files with new content.
        trashed: Paths that went to the trash, and where they are now.
        problems: What could not be done.
        ended_ns: What :func:`~mlepool.files.proofs.file_clock` said when all was done.
    """

    def __init__(
        self,
        tree: Root,
        there: Mapping[bytes, Entry],
        *,
        stage: int,
        trash: Trash,
        keep: Callable[[Root, bytes, os.stat_result], None],
        closed: Sequence[bytes] = (),
    ) -> None:
        self._closed = closed
        self._tree = tree
        self._there = there
        self._stage = stage
        self._trash = trash
        self._keep = keep
        self._opened: dict[bytes, int] = {}
        self.placed: list[Placed] = []
        self.trashed: list[tuple[bytes, bytes]] = []
        self.problems: list[Problem] = []
        self.ended_ns = 0

    def run(self, work: Work, files: Iterable[tuple[int, Staged]]) -> None:
        """Do it all: what is deleted first, as others may come in its place."""
        for path in work.deleted:
            self._do(path, self._delete, path)
        folders = [work.folders[one] for one in sorted(work.folders, key=order_of)]
        for folder in folders:
            self._do(folder.path, self._make_folder, folder.path)
        for number, file in files:
            self._do(file.entry.path, self._put, number, file)
        for entry in work.links.values():
            self._do(entry.path, self._make_link, entry)
        for entry in work.touched.values():
            self._do(entry.path, self._touch_known, entry)
        self._finish(folders)
        self._let_tick()
        self.ended_ns = file_clock()

    def _do(self, path: bytes, action: Callable[[*Ts], None], *args: *Ts) -> None:
        """Do something at a path; if a folder forbids it that is ours, open it up."""
        try:
            self._check(path)
            try:
                action(*args)
            except PermissionError:
                if not self._open_up(path):
                    raise
                action(*args)
        except (OSError, ValueError) as exc:  # a link that says what no link can
            self._add_problem(path, exc)

    def _check(self, path: bytes) -> None:
        if any(is_inside(path, one) for one in self._closed):
            raise PermissionError(errno.EACCES, CLOSED)

    def _open_up(self, path: bytes) -> bool:
        """Give us access to the folders on a path; False if that changes nothing."""
        opened = False
        for prefix in _prefixes(path):
            with contextlib.suppress(OSError):
                seen = self._tree.stat(prefix)
                if stat.S_ISDIR(seen.st_mode) and seen.st_mode & ACCESS != ACCESS:
                    self._tree.set_mode(prefix, seen.st_mode | ACCESS)
                    self._opened[prefix] = seen.st_mode
                    opened = True
        return opened

    def _delete(self, path: bytes) -> None:
        if any(is_inside(one, path) for one in self._closed):
            raise PermissionError(errno.EACCES, CLOSED)
        with contextlib.suppress(FileNotFoundError):
            self.trashed.append((path, self._trash.take(self._tree, path)))

    def _make_folder(self, path: bytes) -> None:
        try:
            self._tree.make_folder(path)
        except FileExistsError:
            self._tree.folder(path)  # it says if it is none

    def _put(self, number: int, file: Staged) -> None:
        """Put a file in its place."""
        entry = file.entry
        if file.problem:
            raise OSError(errno.ESTALE, file.problem)
        if file.is_same:
            self._touch_same(file)
            return
        if entry.path in self._there:
            with contextlib.suppress(FileNotFoundError):
                seen = self._tree.stat(entry.path)
                if stat.S_ISREG(seen.st_mode):
                    self._keep(self._tree, entry.path, seen)
        place(self._tree, entry.path, source=self._stage, name=str(number).encode())
        self.placed.append(Placed(entry, file))

    def _make_link(self, entry: Entry) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(LINK_NAME, dir_fd=self._stage)
        os.symlink(entry.target, LINK_NAME, dir_fd=self._stage)
        times = (entry.mtime_ns, entry.mtime_ns)
        try:
            os.utime(LINK_NAME, ns=times, dir_fd=self._stage, follow_symlinks=False)
        except OSError as exc:
            if exc.errno not in NO_LINK_TIMES:
                raise
        place(self._tree, entry.path, source=self._stage, name=LINK_NAME)

    def _touch_same(self, file: Staged) -> None:
        """Give a file its mode and mtime that has the right content already."""
        seen = self._tree.stat(file.entry.path)
        if pack_proof(seen) != file.compared:
            raise OSError(errno.ESTALE, "changed in the target meanwhile")
        self._touch(file.entry)

    def _touch_known(self, entry: Entry) -> None:
        """Give a file its mode and mtime, unless it was written to since the scan."""
        seen, known = self._tree.stat(entry.path), self._there.get(entry.path)
        looks = FILE, seen.st_size, seen.st_mtime_ns
        if known is None or (known.kind, known.size, known.mtime_ns) != looks:
            raise OSError(errno.ESTALE, "changed in the target meanwhile")
        self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        """Give something its mode and mtime, if it has others: that takes the owner."""
        seen = self._tree.stat(entry.path)
        if stat.S_IMODE(seen.st_mode) != entry.mode:
            self._tree.set_mode(entry.path, entry.mode)
        if seen.st_mtime_ns != entry.mtime_ns:
            self._tree.set_mtime(entry.path, entry.mtime_ns)

    def _finish(self, folders: list[Entry]) -> None:
        """Give folders their mode and time, deepest first: parents may forbid it."""
        final = {entry.path: entry for entry in folders}
        for path in sorted({*final, *self._opened}, key=order_of, reverse=True):
            with self._problem_of(path):
                self._check(path)
                if path in final:
                    self._touch(final[path])
                else:
                    self._tree.set_mode(path, self._opened[path])

    def _let_tick(self) -> None:
        """Wait for the clock of files: what changes in one tick looks unchanged.

        Where only small files would have to be read again for that, go on.
        """
        large = [one.entry for one in self.placed if one.entry.size >= LARGE]
        with contextlib.suppress(OSError):
            for _ in range(MOST_TICKS if large else 0):
                if file_clock() > self._tree.stat(large[-1].path).st_ctime_ns:
                    return
                time.sleep(TICK)

    @contextlib.contextmanager
    def _problem_of(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            return  # a folder that could not be made, and said so; or one deleted
        except OSError as exc:
            self._add_problem(path, exc)

    def _add_problem(self, path: bytes, exc: OSError | ValueError) -> None:
        text = getattr(exc, "strerror", None) or str(exc)
        self.problems.append(Problem(path, text))


def _prefixes(path: bytes) -> Iterator[bytes]:
    """Give the folders on a path, the root first, and the path itself."""
    yield b""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)
    yield path
