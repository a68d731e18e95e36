"""Which workers are known, by their key: join URLs, tokens, where they are kept."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlepool.config import (
    DEFAULT_PORT,
    SOCKET_FILE,
    account_dir,
    default_state_dir,
    write_private,
)
from mlepool.errors import ConfigError

__all__ = [
    "KEY",
    "THIS_MACHINE",
    "KnownWorker",
    "LocalWorker",
    "Target",
    "TrustStore",
    "local_workers",
    "plain_sockets",
]

KNOWN_FOLDER = "known"  # a file for each: two that are trusted at once don't collide
WORKERS_FOLDER = "workers"
TOKEN_FILE = "token"
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
KEY = re.compile(r"[0-9A-Za-z_-]{43}")  # SHA-256 in URL-safe base64, without "="


class Target(NamedTuple):
    """Where a worker is to be found, and what is known of it beforehand.

    Attributes:
        host: A name or address; for a unix socket its path.
        port: 0 for a unix socket.
        scheme: ``"wss"``, ``"ws"`` or ``"unix"``; empty where that was left open: TLS,
            but for workers here of which this account knows better.
        key: The fingerprint that the worker must show; empty for any trusted one.
        token: The token; empty to look it up by the key that the worker shows.
    """

    host: str
    port: int
    scheme: str = ""
    key: str = ""
    token: str = ""

    @property
    def name(self) -> str:
        """The connection's name: without the port where that is the usual one."""
        if self.scheme == "unix":
            return "local" if not self.host else f"unix:{self.host}"
        return self.host if self.port == DEFAULT_PORT else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The WebSocket URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme or 'wss'}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, port: int = DEFAULT_PORT) -> Target:
        """Read a host, ``host:port``, ``ws://``, ``wss://``, join or ``unix:`` URL.

        Raises:
            ConfigError: If it is none of these; a token in it is not repeated.
        """
        if text.startswith("unix:"):
            return cls(text.removeprefix("unix:"), 0, "unix")
        scheme, separator, rest = text.partition("://")
        if not separator:
            return _parse_address(text, port, scheme="")
        if scheme in ("ws", "wss"):
            return _parse_address(rest.rstrip("/"), port, scheme=scheme)
        if scheme == "mle":
            return _parse_join_url(rest)
        raise ConfigError(
            f"cannot connect to a {scheme}:// address: use a host, ws://, wss://, "
            "unix: or the join URL (mle://) that the worker printed"
        )


class KnownWorker(msgspec.Struct, frozen=True):
    """A worker that was trusted: its token, and where it was."""

    token: str
    host: str = ""
    port: int = DEFAULT_PORT
    scheme: str = "wss"


class LocalWorker(NamedTuple):
    """A worker of this account on this machine.

    Attributes:
        key: Its fingerprint.
        state_dir: Its state folder, with its socket.
        port: The TCP port that it listens on.
        is_plain: True if it does so without TLS.
    """

    key: str
    state_dir: Path
    port: int
    is_plain: bool = False

    def token(self) -> str:
        """Read its token; empty if that can't be read."""
        try:
            return (self.state_dir / TOKEN_FILE).read_text().strip()
        except OSError:
            return ""


class TrustStore:
    """The workers that this account trusts, by key fingerprint.

    Args:
        folder: The account's folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or account_dir()) / KNOWN_FOLDER

    def load(self) -> dict[str, KnownWorker]:
        """Read all.

        Raises:
            ConfigError: If a file is damaged or may not be read.
        """
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise ConfigError(f"cannot read {self._folder}: {exc.strerror}") from exc
        found = {name: self.find(name) for name in names if KEY.fullmatch(name)}
        return {name: known for name, known in found.items() if known is not None}

    def find(self, key: str) -> KnownWorker | None:
        """Read what is known of a worker; None if it is not trusted.

        Raises:
            ConfigError: If its file is damaged or may not be read.
        """
        if not KEY.fullmatch(key):
            return None
        path = self._folder / key
        try:
            return msgspec.json.decode(path.read_bytes(), type=KnownWorker)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path} is damaged: {exc}; trust it again") from exc

    def add(self, target: Target) -> None:
        """Trust the worker of a join URL.

        Raises:
            ConfigError: If it has no key and token, or they can't be kept.
        """
        if not target.key or not target.token:
            raise ConfigError(
                "only a join URL (mle://...) can be trusted: it has the worker's key"
            )
        known = KnownWorker(target.token, target.host, target.port, target.scheme)
        data = msgspec.json.format(msgspec.json.encode(known))
        try:
            write_private(self._folder / target.key, data)
        except OSError as exc:
            cause = f"cannot write to {self._folder}: {exc.strerror}"
            raise ConfigError(cause) from exc

    def token_for(self, key: str) -> str:
        """Give the token that belongs to a key: trusted, or this account's own."""
        known = self.find(key)
        if known is not None:
            return known.token
        if not KEY.fullmatch(key):
            return ""
        worker = _read_local(account_dir() / WORKERS_FOLDER / key)
        return "" if worker is None else worker.token()

    def key_at(self, target: Target) -> str:
        """Give the key that was trusted at an address; empty if none was."""
        for key, known in self.load().items():
            if (known.host, known.port) == (target.host, target.port):
                return key
        return ""


def local_workers() -> Iterator[LocalWorker]:
    """Give the workers that this account has on this machine."""
    try:
        entries = sorted((account_dir() / WORKERS_FOLDER).iterdir())
    except OSError:
        return
    yield from filter(None, map(_read_local, entries))


def _read_local(entry: Path) -> LocalWorker | None:
    try:
        folder, port, *rest = os.fsdecode(entry.read_bytes()).split("\n")
        return LocalWorker(entry.name, Path(folder), int(port), rest[:1] == ["ws"])
    except (OSError, ValueError):
        return None  # it is none of ours, or is being written or removed just now


def plain_sockets(target: Target) -> list[Path]:
    """Give the sockets of this account's workers that listen there without TLS.

    What the account's own files say decides, never what somebody at that port says. And
    a socket is safer than the port, which another account may have taken since.

    Args:
        target: Where somebody is to be reached. If it says how, or who, or with which
            token, or means another machine, there is none; nor if a worker here that
            speaks TLS has the same port, on another address.
    """
    is_open = not (target.scheme or target.key or target.token)
    if not is_open or target.host not in THIS_MACHINE:
        return []
    here = [one for one in local_workers() if one.port == target.port]
    if not all(one.is_plain for one in here):
        return []
    return [one.state_dir / SOCKET_FILE for one in here]


def local_socket(place: str) -> Path:
    """Find a worker's local socket.

    Args:
        place: A state folder or a socket; empty for this account's worker.

    Raises:
        ConfigError: If it is empty and there is not exactly one to choose from.
    """
    if place:
        path = Path(place).expanduser()
        return path / SOCKET_FILE if path.is_dir() else path
    default = default_state_dir() / SOCKET_FILE
    if default.exists():
        return default
    found = list(local_workers())
    if len(found) == 1:
        return found[0].state_dir / SOCKET_FILE
    folders = ", ".join(f"unix:{one.state_dir}" for one in found) or "none runs"
    raise ConfigError(f"name the worker's state folder as unix:DIR ({folders})")


def _parse_address(text: str, port: int, *, scheme: str) -> Target:
    match = re.fullmatch(
        r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\s:/?#\[\]@\0-\x1f]+))"
        r"(?::(?P<port>[0-9]{1,5}))?",
        text,
    )
    bare_v6 = re.fullmatch(
        r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(?:%[\w.-]+)?", text
    )
    if bare_v6:
        return Target(text, port, scheme)
    number = int(match["port"]) if match and match["port"] else port
    if not match or not 0 < number < 65536:
        # What may be a token is not repeated: this goes to logs and screens.
        shown = text.partition("?")[0].rpartition("@")[2]
        raise ConfigError(f"{shown!r} is not a host or host:port")
    return Target(match["host"] or match["v6"], number, scheme)


def _parse_join_url(rest: str) -> Target:
    place, _, query = rest.partition("?")
    fields = urllib.parse.parse_qs(query)
    key, token = (fields.get(name, [""])[0] for name in ("key", "token"))
    if not KEY.fullmatch(key) or not token:
        raise ConfigError(
            "the join URL is not whole: it must have key= and token=; copy it again"
        )
    address = _parse_address(place.rstrip("/"), DEFAULT_PORT, scheme="wss")
    scheme = fields.get("scheme", ["wss"])[0]
    if scheme not in ("ws", "wss"):
        raise ConfigError(f"the join URL has an unknown scheme {scheme!r}")
    return address._replace(key=key, token=token, scheme=scheme)
