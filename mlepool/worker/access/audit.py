"""The audit log: who did what, when, and what became of it; a JSON object a line.

A line is written before what it tells of is done: who kills the worker by what he runs
is in it. What may be told a moment late, as the end of a job, is written with the next
line: one write for both. It is not waited for that they are safe from a loss of power.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["AUDIT_FOLDER", "EVENTS", "AuditLog", "facts_of", "in_words", "read_audit"]

logger = logging.getLogger("mlepool.worker")

# What a line may tell of.
EVENTS = ("connected", "accepted", "refused", "ended", "synced", "token", "lost")
AUDIT_FOLDER = "audit"  # in the state folder
AUDIT_FILE = "audit.jsonl"
FILES = 8  # that the log consists of: the oldest eighth goes at a time
LOOK_EVERY = 1.0  # seconds between two looks whether the file is still there
TAIL = 256 * 1024  # bytes at the end in which the last line is looked for
MAX_NOTED = 100  # lines that wait to be written; more are not waited with
MAX_WORDS = 4000  # characters of a command, or of an argument

# Arguments of the built-in commands that may stand in the log. What others hold is
# nobody's business: input, the contents of files, values of the environment.
OPEN_ARGUMENTS = (
    *("job_id", "signal", "grace", "session", "root", "path", "paths", "pattern"),
    *("src", "dest", "source", "destination", "recursive", "delay"),
)


_encode = msgspec.json.Encoder().encode


class AuditLog:
    """Appends to a worker's audit log, and lets go of its oldest part.

    What can't be written is counted: work goes on, and the log says how many lines are
    missing once there is room again.

    Args:
        state_dir: The worker's state folder.
        size: Bytes of log that are kept; 0 for no log.
        clock: Gives the time, in seconds since the epoch.
    """

    def __init__(
        self, state_dir: Path, *, size: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.size = size
        self._folder = state_dir / AUDIT_FOLDER
        self._clock = clock
        self._fd = -1
        self._size = 0
        self._limit = 0
        self._looked = 0.0
        self._second = (0, "")
        self._is_torn = False
        self._missing = 0
        self._noted: list[tuple[float, bytes]] = []

    def write(self, event: str, **facts: Any) -> None:
        """Write a line, after those that wait; facts that are None are left out."""
        if self.size > 0:
            self._note(event, facts)
            self.flush()

    def note(self, event: str, **facts: Any) -> None:
        """Have a line written with the next one, or by :meth:`flush`."""
        if self.size > 0:
            self._note(event, facts)
            if len(self._noted) >= MAX_NOTED:
                self.flush()

    def flush(self) -> None:
        """Write the lines that wait; nothing if there are none."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        now, lost = noted[-1][0], b""
        if self._missing:
            lost = self._line(now, "lost", {"lines": self._missing})
        data = b"".join([line for _, line in noted])
        written, cause = self._append(lost + data, now)
        if lost and written >= len(lost):
            logger.warning("the audit log goes on; %d lines lack", self._missing)
            self._missing = 0
        if written != len(lost) + len(data):
            lacking = len(noted) - data.count(b"\n", 0, max(0, written - len(lost)))
            if not self._missing:
                logger.error("cannot write to the audit log: %s; work goes on", cause)
            self._missing += lacking
            self._leave()

    def last_time(self) -> float | None:
        """Say when the worker has last written a line; None if there is no such line.

        What ``mlepool token`` has written does not count.
        """
        for number in (0, 1):
            with contextlib.suppress(OSError):
                data = _tail(self._folder / _name(number))
                for line in map(_decoded, reversed(data.split(b"\n"))):
                    if line and line.get("event") != "token" and "time" in line:
                        return datetime.datetime.fromisoformat(line["time"]).timestamp()
        return None

    def close(self) -> None:
        """Write what waits, and close the file; the next line opens it again.

        Twice is fine.
        """
        self.flush()
        self._leave()

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        now = self._clock()
        # Made now: whoever writes it with a line of theirs is in a hurry.
        self._noted.append((now, self._line(now, event, facts)))

    def _line(self, now: float, event: str, facts: dict[str, Any]) -> bytes:
        second = int(now)
        if second != self._second[0]:  # formatting a time takes longer than all else
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        when = f"{self._second[1]}.{int((now - second) * 1000):03d}+00:00"
        if None in facts.values():
            facts = {name: one for name, one in facts.items() if one is not None}
        try:
            return _encode({"time": when, "event": event, **facts}) + b"\n"
        except (UnicodeEncodeError, TypeError):
            line = {"time": when, "event": event, "text": ascii(facts)}
            return _encode(line) + b"\n"

    def _append(self, lines: bytes, now: float) -> tuple[int, str]:
        """Write lines by one call, so that those of others don't get into them.

        Returns:
            How many bytes of them are there; and why, if they are not all.
        """
        try:
            self._open(len(lines), now)
            torn = b"\n" if self._is_torn else b""
            written = os.write(self._fd, torn + lines)
        except OSError as exc:
            return 0, str(exc)
        self._size += written
        self._is_torn = written != len(torn) + len(lines)
        return max(0, written - len(torn)), "not all of it could be written"

    def _open(self, size: int, now: float) -> None:
        """Have a file open that is still there, and has room for a line."""
        if self._fd >= 0:
            is_there = abs(now - self._looked) < LOOK_EVERY or self._look(now)
            if is_there and self._size + size <= self._limit:
                return
            self._leave()
            if is_there:
                self._rotate()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._folder / AUDIT_FILE, flags, 0o600)
        end = self._size = os.fstat(self._fd).st_size
        self._is_torn = end > 0 and os.pread(self._fd, 1, end - 1) != b"\n"
        # Beyond its share where it can't be renamed: it is tried again after another.
        share = self.size // FILES
        self._limit = share if end + size <= share else end + size + share

    def _look(self, now: float) -> bool:
        """Tell if the file is still there, and how long: others write, too."""
        self._looked = now
        stat = os.fstat(self._fd)
        self._size = stat.st_size
        return stat.st_nlink > 0

    def _rotate(self) -> None:
        """Rename the files by one; the oldest is replaced."""
        names = [_name(number) for number in range(FILES)]
        try:
            for newer, older in reversed(list(zip(names, names[1:], strict=False))):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._folder / newer, self._folder / older)
        except OSError as exc:
            logger.warning("the audit log can't be rotated, and grows: %s", exc)


def facts_of(arguments: Mapping[str, Any], *, is_builtin: bool) -> dict[str, Any]:
    """Give what the log may say of a command's arguments.

    Args:
        arguments: The arguments.
        is_builtin: False for a command of the user's own: of that, only the names.
    """
    if not is_builtin:
        return {"arguments": sorted(arguments)}
    given = {name: arguments[name] for name in OPEN_ARGUMENTS if name in arguments}
    return {name: _shown(value) for name, value in given.items()}


def in_words(words: Iterable[bytes | str]) -> list[str]:
    """Write words as text, and no more than :data:`MAX_WORDS` characters of them."""
    shown: list[str] = []
    room = MAX_WORDS
    for one in words:
        if isinstance(one, str):
            one = one.encode("utf-8", "surrogateescape")
        if len(one) > room:
            shown.append(one[:room].decode("utf-8", "backslashreplace") + "...")
            break
        shown.append(one.decode("utf-8", "backslashreplace"))
        room -= len(one)
    return shown


def read_audit(state_dir: Path) -> Iterator[dict[str, Any] | None]:
    """Read a worker's audit log, the oldest line first.

    Returns:
        The lines; None for one that is damaged.
    """
    for number in reversed(range(FILES)):
        try:
            data = (state_dir / AUDIT_FOLDER / _name(number)).read_bytes()
        except FileNotFoundError:
            continue
        for line in filter(None, data.split(b"\n")):
            yield _decoded(line)


def _shown(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return next(iter(in_words([value])))
    if isinstance(value, list | tuple):
        return in_words(one for one in value if isinstance(one, str | bytes))
    return value if isinstance(value, bool | int | float) else None


def _tail(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return file.read()


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _name(number: int) -> str:
    return AUDIT_FILE if number == 0 else f"audit.{number}.jsonl"
