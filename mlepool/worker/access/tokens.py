"""A worker's tokens: who may come in, what for, and until when.

The first token is made with the worker's key, has all rights, and is in a file of its
own. The others are in ``tokens.json``. Both files are read again whenever they have
changed, so that what ``mlepool token`` does holds at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import structs

from mlepool.config import write_private
from mlepool.errors import WorkerError
from mlepool.worker.access.grants import ROLES, Grant
from mlepool.worker.access.identity import MIN_TOKEN, TOKEN_FILE, new_secret

__all__ = ["FIRST", "TOKENS_FILE", "Token", "TokenStore", "token_id"]

logger = logging.getLogger("mlepool.worker")

TOKENS_FILE = "tokens.json"
LOCK_FILE = "tokens.lock"
USED_FOLDER = "used"  # a file for each token; its time is that of the last use
FIRST = "first"  # what the first token is called
TAKEN_NAMES = (FIRST, "local")  # "local" is this account on this machine
REMEMBERED = 30 * 86400.0  # seconds that a revoked token is known as such

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # it becomes a file's name
_ID = re.compile(r"[0-9a-f]{16}")

_Signature = tuple[int, int, int] | None


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token: its secret, and what it is good for.

    Attributes:
        name: What people call it.
        secret: What is to be proven; never shown, logged or sent.
        roles: Some of :data:`~mlepool.worker.access.grants.ROLES`.
        commands: Patterns that what it runs must match one of; none: anything.
        roots: Absolute folders that its files must be in; none: as the worker's.
        labels: For people.
        created: Seconds since the epoch; likewise ``expires`` and ``revoked``, where
            None is never.
    """

    name: str
    secret: str
    roles: tuple[str, ...]
    commands: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None

    def __repr__(self) -> str:
        return f"Token({self.name!r}, id={self.id!r}, roles={self.roles!r})"

    @property
    def id(self) -> str:
        """Its secret's id: clients send it, to say which token they have."""
        return token_id(self.secret)

    def grant(self) -> Grant:
        """Give what its client may do."""
        return Grant(
            self.name,
            frozenset(self.roles),
            self.commands,
            tuple(map(Path, self.roots)),
            self.labels,
            self.expires,
        )

    def problem(self, now: float) -> str:
        """Say why it is good for nothing (any more); empty if it is."""
        if self.revoked is not None:
            return f"this token ({self.name!r}) was revoked on {_day(self.revoked)}"
        if self.expires is not None and now >= self.expires:
            return f"this token ({self.name!r}) has expired on {_day(self.expires)}"
        return ""


def token_id(secret: str) -> str:
    """Name a token without telling it: the start of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


class TokenStore:
    """The tokens of one worker.

    Args:
        state_dir: The worker's state folder.
        clock: Gives the time, in seconds since the epoch.
    """

    def __init__(
        self, state_dir: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._state_dir = state_dir
        self._paths = (state_dir / TOKEN_FILE, state_dir / TOKENS_FILE)
        self._seen: tuple[_Signature, ...] = ()
        self._tokens: dict[str, Token] = {}

    def find(self, which: str) -> Token | None:
        """Find a token by the id of its secret, also one that is good no more."""
        seen = tuple(map(_signature, self._paths))
        if seen != self._seen:
            # Looked at before they are read: who writes meanwhile is seen next time.
            self._seen = seen
            self._tokens = {one.id: one for one in self._read_what_can_be()}
        return self._tokens.get(which)

    def listing(self) -> list[Token]:
        """Give all that were not revoked, the first token first.

        Raises:
            WorkerError: If a file is damaged.
        """
        tokens = [self._read_first(), *self._read_others()]
        return [one for one in tokens if one.revoked is None]

    def create(self, token: Token) -> None:
        """Add a token.

        Raises:
            WorkerError: If its name is taken or none, there is no such role, or it
                can't be kept.
        """
        _check(token)
        with self._edited() as others:
            taken = {one.name for one in others if one.revoked is None}
            if token.name in taken or _ID.fullmatch(token.name):
                raise WorkerError(f"the name {token.name!r} is taken")
            others.append(token)

    def revoke(self, which: str) -> Token:
        """Revoke a token, by its id or name.

        Raises:
            WorkerError: If there is no such token, or it is the first one.
        """
        with self._edited() as others:
            token = self._pick(which, others)
            if token.name == FIRST:
                raise WorkerError("the first token can't be revoked; rotate it instead")
            self._bury(token, others)
        self._used_file(token.name).unlink(missing_ok=True)
        return token

    def rotate(self, which: str) -> Token:
        """Give a token another secret; whoever has the old one is out.

        Returns:
            The token as it is now.

        Raises:
            WorkerError: If there is no such token.
        """
        with self._edited() as others:
            old = self._pick(which, others)
            new = structs.replace(old, secret=new_secret(), created=self.clock())
            self._bury(old, others)
            if old.name == FIRST:
                write_private(self._paths[0], new.secret.encode() + b"\n")
            else:
                others.append(new)
        return new

    def note_use(self, token: Token) -> None:
        """Note that somebody has come in with a token; when that can't be, nothing."""
        with contextlib.suppress(OSError):
            path = self._used_file(token.name)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)

    def last_use(self, token: Token) -> float | None:
        """Say when somebody has last come in with a token; None for never."""
        try:
            return self._used_file(token.name).stat().st_mtime
        except OSError:
            return None

    # -- within

    def _used_file(self, name: str) -> Path:
        return self._state_dir / USED_FOLDER / name

    def _read_what_can_be(self) -> list[Token]:
        """Read both files; nobody gets in by one that is damaged."""
        tokens: list[Token] = []
        readers: tuple[Callable[[], list[Token]], ...] = (
            lambda: [self._read_first()],
            self._read_others,
        )
        for read in readers:
            try:
                tokens += read()
            except WorkerError as exc:
                logger.error("%s; nobody gets in by it", exc)
        return tokens

    def _read_first(self) -> Token:
        path = self._paths[0]
        try:
            secret = path.read_text().strip()
            created = path.stat().st_mtime
        except (OSError, ValueError) as exc:
            raise WorkerError(f"{path} can't be read: {exc}") from exc
        if len(secret) < MIN_TOKEN:
            raise WorkerError(f"{path} is damaged: it is too short")
        return Token(FIRST, secret, ROLES, created=created)

    def _read_others(self) -> list[Token]:
        path = self._paths[1]
        try:
            tokens = msgspec.json.decode(path.read_bytes(), type=list[Token])
            for one in tokens:
                _check(one)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, WorkerError) as exc:
            raise WorkerError(f"{path} is damaged: {exc}") from exc
        return tokens

    @contextlib.contextmanager
    def _edited(self) -> Iterator[list[Token]]:
        """Read the others, and write what becomes of them: one at a time does that."""
        with self._lock():
            others = self._read_others()
            yield others
            old = self.clock() - REMEMBERED
            kept = [one for one in others if one.revoked is None or one.revoked > old]
            data = msgspec.json.format(msgspec.json.encode(kept))
            try:
                write_private(self._paths[1], data + b"\n")
            except OSError as exc:
                cause = f"cannot write {self._paths[1]}: {exc.strerror}"
                raise WorkerError(cause) from exc

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            lock = os.open(self._state_dir / LOCK_FILE, flags, 0o600)
        except OSError as exc:
            cause = f"the state folder {self._state_dir} is not usable: {exc.strerror}"
            raise WorkerError(cause) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _pick(self, which: str, others: list[Token]) -> Token:
        for one in (self._read_first(), *others):
            if which in (one.id, one.name) and one.revoked is None:
                return one
        raise WorkerError(f"there is no token {which!r}")

    def _bury(self, token: Token, others: list[Token]) -> None:
        """Keep a token as one that is good no more: its owner is told so."""
        if token in others:
            others.remove(token)
        others.append(structs.replace(token, revoked=self.clock()))


def _check(token: Token) -> None:
    """Check what stands in a token.

    Raises:
        WorkerError: If it can't be right.
    """
    if token.name in TAKEN_NAMES and token.revoked is None:
        raise WorkerError(f"the name {token.name!r} is taken")
    if not _NAME.fullmatch(token.name):
        raise WorkerError(
            f"{token.name[:80]!r} is no name for a token: give up to 64 letters, "
            "digits, '.', '_', '@' and '-'"
        )
    if len(token.secret) < MIN_TOKEN:
        raise WorkerError(f"the secret of {token.name!r} is too short")
    wrong = [one for one in token.roles if one not in ROLES]
    if wrong or not token.roles:
        given = ", ".join(map(repr, wrong)) or "none"
        raise WorkerError(f"a token's roles are of {', '.join(ROLES)}; not {given}")
    for root in token.roots:
        if not os.path.isabs(root) or "\0" in root:
            raise WorkerError(f"a token's root is an absolute path, not {root!r}")


def _signature(path: Path) -> _Signature:
    """Give what changes with a file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))
