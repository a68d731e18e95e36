"""What a client may do: roles, and what narrows them.

A token may be for some commands only: patterns as those of file names (``*``, ``?``,
``[a-z]``), which the command as a whole has to match, written as a shell would read it:
``python *`` is any program called ``python`` with at least one argument.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from mlepool.errors import PermissionDeniedError
from mlepool.files.descent import is_inside

__all__ = [
    "FULL",
    "ROLES",
    "Grant",
    "command_line",
    "common_roots",
    "denied",
    "foreign_variables",
]

# Each role by itself; a token has one or several. "admin" has all that the others have.
ROLES = ("view", "run", "sync", "admin")

# A line for the shell in which it finds nothing but words, and no variable set.
_PLAIN_LINE = re.compile(r"[\w.,:/@%+-]+([ \t]+[\w.,:/@%+=-]+)*", re.ASCII)
_SHELL = ["/bin/sh", "-c"]

# What may be set for a program without making it another one: no PATH, no LD_PRELOAD,
# no PYTHONSTARTUP, and whatever else there is of that kind.
_HARMLESS = re.compile(
    r"LANG|LC_[A-Z]+|TERM|TZ|NO_COLOR|COLUMNS|LINES|OMP_NUM_THREADS"
    r"|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES"
)


class Grant(msgspec.Struct, frozen=True):
    """What the client of one link may do.

    Attributes:
        name: Of its token; ``"local"`` for this account on this machine.
        roles: Of :data:`ROLES`.
        commands: Patterns that a run's command must match one of; none: any command.
        roots: Folders that all files must be in; none: those of the worker's settings.
        labels: The token's own, for people.
        expires: When it ends, in seconds since the epoch; None for never.
    """

    name: str
    roles: frozenset[str]
    commands: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    labels: dict[str, str] = {}
    expires: float | None = None

    def has(self, role: str) -> bool:
        """Tell if it has a role; ``"admin"`` has all, and everybody ``"any"``."""
        return role == "any" or role in self.roles or "admin" in self.roles

    def fits(self, *commands: str) -> bool:
        """Tell if one of these is a command that it may run."""
        patterns = self.commands
        return not patterns or any(
            fnmatch.fnmatchcase(one, pattern)
            for one in commands
            for pattern in patterns
        )


FULL = Grant("local", frozenset(ROLES))


def denied(text: str) -> PermissionDeniedError:
    """Make the error for what a client may not do; the text names the right."""
    error = PermissionDeniedError(text)
    error.type_name, error.message = type(error).__name__, text
    return error


def command_line(argv: Sequence[bytes]) -> str:
    """Write a command as patterns see it.

    A line for ``/bin/sh`` is what it says, if that is words only: with a quote, a
    variable, a wildcard, a redirection or a second command in it, it is none that a
    pattern could judge.

    Returns:
        Its words, quoted where a shell would need it; empty for what can't be judged.
    """
    words = [os.fsdecode(one) for one in argv]
    if words[:2] == _SHELL:
        line = words[2] if len(words) == 3 else ""
        return " ".join(line.split()) if _PLAIN_LINE.fullmatch(line) else ""
    return shlex.join(words)


def foreign_variables(names: Iterable[str]) -> list[str]:
    """Give the environment variables that could make a program do something else."""
    return sorted(one for one in names if not _HARMLESS.fullmatch(one))


def common_roots(some: Sequence[Path], others: Sequence[Path]) -> tuple[Path, ...]:
    """Give the folders that are in both of two lists, where none is anywhere.

    Where one of two is inside the other, it is the inner one. Links are followed, so
    this may wait for a disk.

    Raises:
        PermissionError: If both name folders, and none is in both.
    """
    if not some or not others:
        return (*some, *others)
    pairs = [(_real(one), _real(other)) for one in some for other in others]
    inner = [one for one, other in pairs if is_inside(one, other)]
    inner += [other for one, other in pairs if is_inside(other, one)]
    if not inner:
        raise PermissionError("this token's folders are outside of the worker's")
    return tuple(Path(os.fsdecode(one)) for one in dict.fromkeys(inner))


def _real(path: Path) -> bytes:
    return os.fsencode(os.path.realpath(path))
