"""A sweep's plan on disk: lines of JSON, appended by one process at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mlepool.client.sweeps.plan import Plan
from mlepool.client.sweeps.records import VERSION, Head, Record
from mlepool.config import account_dir
from mlepool.errors import SweepPlanError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["PlanFile", "new_sweep_id", "plan_path"]

FOLDER = "sweeps"  # in the account's folder
SUFFIX = ".sweep"

_encoder = msgspec.json.Encoder()
_head = msgspec.json.Decoder(Head)
_record = msgspec.json.Decoder(Record)


def new_sweep_id() -> str:
    """Make a sweep's id: 64 random bits, as of a job."""
    return secrets.token_hex(8)


def plan_path(name: str | os.PathLike[str] | None, sweep_id: str) -> Path:
    """Give where a plan is: where it was asked for, or in the account's folder."""
    if name is not None:
        return Path(name).expanduser().absolute()
    return own_folder() / f"{sweep_id}{SUFFIX}"


def own_folder() -> Path:
    """Give the folder of plans of which nobody said where they are to be.

    It is made when it is needed. Another folder is not: its name may be mistyped, and
    a plan has to be found again.
    """
    return account_dir() / FOLDER


class PlanFile:
    """The file of a plan that is being driven; locked until it is closed.

    What is appended is in memory first: :meth:`write` gives all of it to the system,
    so that it outlives this process, and :meth:`sync` to the disk.

    Attributes:
        path: Where it is.
        plan: What it says.
    """

    def __init__(self, path: Path, fd: int, plan: Plan, *, size: int) -> None:
        self.path = path
        self.plan = plan
        self._fd = fd
        self._size = size
        self._waiting: list[bytes] = []

    @classmethod
    def make(cls, path: Path, head: Head) -> Self:
        """Make a new plan.

        Raises:
            SweepPlanError: If there is such a file already, or it can't be written.
            ValueError: If the head makes no sense.
        """
        plan = Plan(head)
        try:
            line = _encoder.encode(head) + b"\n"
        except (OverflowError, TypeError) as exc:
            raise ValueError(f"a parameter can't be written down: {exc}") from exc
        try:
            if path.parent == own_folder():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Its environment may hold secrets.
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            text = "there is such a file already: pool.resume() goes on with a plan"
            raise SweepPlanError(path, text) from None
        except FileNotFoundError:
            raise SweepPlanError(path, f"there is no folder {path.parent}") from None
        except OSError as exc:
            raise SweepPlanError(path, str(exc)) from exc
        made = cls(path, fd, plan, size=0)
        try:
            made._lock()
            made._waiting.append(line)
            made.write()
            made.sync()
            _sync_folder(path.parent)
        except OSError as exc:
            made.close()
            path.unlink()
            raise SweepPlanError(path, str(exc)) from exc
        return made

    @classmethod
    def open(cls, path: Path) -> Self:
        """Go on with a plan; a last line that was cut off is let go.

        Raises:
            SweepPlanError: If there is none, it is driven by somebody, or damaged.
        """
        try:
            fd = os.open(path, _FLAGS)
        except OSError as exc:
            raise SweepPlanError(path, exc.strerror or str(exc)) from exc
        try:
            _lock(fd, path)
            data = path.read_bytes()
            size = data.rfind(b"\n") + 1
            plan = read_plan(data[:size], path)
            os.ftruncate(fd, size)
        except OSError as exc:
            os.close(fd)
            raise SweepPlanError(path, str(exc)) from exc
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, plan, size=size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def note(self, record: Record) -> None:
        """Change the plan, and have that written with the next :meth:`write`."""
        self.plan.apply(record)
        self._waiting.append(_encoder.encode(record))
        self._waiting.append(b"\n")

    def write(self) -> None:
        """Give all that was noted to the system.

        Raises:
            OSError: If it can't be written: it is still noted, and nothing of it is in
                the file.
        """
        data = b"".join(self._waiting)
        if not data:
            return
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                os.write(self._fd, data[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._waiting.clear()
        self._size += len(data)

    def sync(self) -> None:
        """Wait until all that was written is on the disk; for a thread.

        Raises:
            OSError: If that can't be had.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """Write what is still to be, if that is possible, and unlock. Twice is fine."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.write()
            self.sync()
        os.close(self._fd)
        self._fd = -1

    def _lock(self) -> None:
        _lock(self._fd, self.path)


_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


def read_plan(data: bytes, path: Path) -> Plan:
    """Read a plan's lines.

    Raises:
        SweepPlanError: If it is none, or of a later version, or damaged.
    """
    first, *lines = data.splitlines() or [b""]
    try:
        head = _head.decode(first)
        if head.version > VERSION:
            text = f"it is of version {head.version}; this release reads {VERSION}"
            raise SweepPlanError(path, text)
        plan = Plan(head)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError) as exc:
        raise SweepPlanError(path, f"it is no plan of a sweep: {exc}") from exc
    for number, line in enumerate(lines, start=2):
        try:
            plan.apply(_record.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as exc:
            raise SweepPlanError(path, f"line {number} is damaged: {exc}") from exc
    return plan


def _lock(fd: int, path: Path) -> None:
    """Lock the file, until it is closed or this process ends.

    Raises:
        SweepPlanError: If somebody else has.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SweepPlanError(path, "another process (or object) drives it") from None


def _sync_folder(folder: Path) -> None:
    """Have a new file's name on the disk, too."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
