"""A control group for each job: cgroups(7), version 2, where we may make them.

What a job starts is in its group whatever it does to get away: daemonise, leave the
session, empty its environment. Groups are made once and used again: making one takes
as long as a system call or two, and so does getting rid of it.

They are threaded, and we are in the group above them: one of our threads may go into
such a group without a lock that has to wait for all of the kernel. With a process that
takes up to ten milliseconds, twice a job.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from pathlib import Path
from types import TracebackType

__all__ = ["Cgroups", "Slot", "Slots"]

MOUNTS = Path("/proc/self/mounts")
OWN_GROUP = Path("/proc/self/cgroup")
PREFIX = "mlepool-"  # what our groups' folders are called, with our pid
LOOKS = 2  # at groups that were in use: there may be thousands, and one is wanted

logger = logging.getLogger("mlepool.supervisor")


class Slot:
    """One group. ``with`` puts what is started meanwhile into it.

    Attributes:
        name: Its path as the kernel's messages have it.
    """

    def __init__(self, folder: Path, name: str, home: int) -> None:
        self.name = name
        self._folder = folder
        self._home = home
        (folder / "cgroup.type").write_text("threaded")
        self._threads = os.open(folder / "cgroup.threads", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> None:
        # This thread: a child begins where its maker is. If somebody has removed the
        # group, the job begins in ours: a job without a group is better than none.
        with contextlib.suppress(OSError):
            os.write(self._threads, b"0")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.write(self._home, b"0")

    def pids(self) -> list[int]:
        """Give the processes in it; zombies are none."""
        try:
            text = (self._folder / "cgroup.threads").read_text()
        except OSError:
            return []  # it is gone, so that nobody is in it
        pids = {_process_of(thread) for thread in text.split()}
        return sorted(pids - {0, os.getpid()})

    def is_empty(self) -> bool:
        """Tell if nobody is in it any more."""
        return not os.pread(self._threads, 1, 0)

    def remove(self) -> None:
        """Remove it, if it is empty."""
        os.close(self._threads)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Cgroups:
    """The groups of one supervisor, all of them within its own.

    Args:
        folder: The supervisor's own group.
        path: The same, as the kernel's messages have it.

    Raises:
        OSError: If none can be made there.
    """

    def __init__(self, folder: Path, path: str) -> None:
        self._path = f"{path.rstrip('/')}/{PREFIX}{os.getpid()}"
        self._folder = folder / f"{PREFIX}{os.getpid()}"
        self._made = 0
        self._given: list[Slot] = []  # back: nobody has looked if they are empty
        self._used: deque[Slot] = deque()  # by somebody still, when looked at last
        self._before = folder / "cgroup.procs"
        _sweep(folder)
        self._folder.mkdir(exist_ok=True)
        flags = os.O_WRONLY | os.O_CLOEXEC
        self._home = os.open(self._folder / "cgroup.threads", flags)
        slot = self.take()
        (self._folder / "cgroup.procs").write_text("0")
        with slot:
            pass  # we may go into it, and back
        self.give_back(slot)

    @classmethod
    def find(cls) -> Cgroups | None:
        """Find out where we may make groups; None if nowhere."""
        try:
            lines = MOUNTS.read_text().splitlines()
            mount = next(line.split()[1] for line in lines if " cgroup2 " in line)
            lines = OWN_GROUP.read_text().splitlines()
            own = next(line[3:] for line in lines if line.startswith("0::"))
            return cls(Path(mount + own), own)
        except (OSError, StopIteration):
            return None

    def take(self) -> Slot:
        """Give an empty group.

        Raises:
            OSError: If it can't be made.
        """
        while self._given:
            slot = self._given.pop()
            if self._may_take(slot):
                return slot
        for _ in range(min(LOOKS, len(self._used))):
            slot = self._used.popleft()
            if self._may_take(slot):
                return slot
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir()
        return Slot(folder, f"{self._path}/{self._made}", self._home)

    def give_back(self, slot: Slot) -> None:
        """Take a group that is not needed; it is used again once it is empty."""
        self._given.append(slot)

    def _may_take(self, slot: Slot) -> bool:
        """Tell if a group is there, and empty; else put it aside."""
        try:
            is_empty = slot.is_empty()
        except OSError:
            slot.remove()  # somebody else has removed it
            return False
        if not is_empty:
            self._used.append(slot)
        return is_empty

    def close(self) -> None:
        """Go back to where we were, and remove what can be removed."""
        with contextlib.suppress(OSError):
            self._before.write_text("0")
        os.close(self._home)
        for slot in (*self._given, *self._used):
            slot.remove()
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Slots:
    """A group for each job, as long as they can be made; then, or elsewhere, none."""

    def __init__(self) -> None:
        self._cgroups = Cgroups.find()

    def take(self) -> Slot | None:
        """Give an empty group, if there are any."""
        if self._cgroups is None:
            return None
        try:
            return self._cgroups.take()
        except OSError as exc:
            logger.warning("jobs get no control group from now on: %s", exc)
            self._cgroups = None
            return None

    def give_back(self, slot: Slot | None) -> None:
        """Take a group that is not needed; None is fine."""
        if slot is not None and self._cgroups is not None:
            self._cgroups.give_back(slot)

    def close(self) -> None:
        """Remove the groups."""
        if self._cgroups is not None:
            self._cgroups.close()


def _sweep(folder: Path) -> None:
    """Remove empty groups that supervisors before us have left."""
    for old in folder.glob(f"{PREFIX}*"):
        if Path(f"/proc/{old.name.removeprefix(PREFIX)}").exists():
            continue  # it lives: empty groups are its own to use again
        for inner in (*old.glob("*/"), old):
            with contextlib.suppress(OSError):
                inner.rmdir()


def _process_of(thread: str) -> int:
    """Give the pid of a thread's process; 0 if it has ended."""
    try:
        text = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("Tgid:")[2].split(maxsplit=1)[0])
