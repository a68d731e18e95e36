"""What an inventory says: hosts, how they are reached, and groups of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mlepool.client.links.trust import Target
from mlepool.config import DEFAULT_PORT
from mlepool.errors import ConfigError

__all__ = ["Host", "Inventory"]

logger = logging.getLogger("mlepool.client")

MAX_TOKEN = 4096  # bytes of a file with a token


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host of an inventory.

    Attributes:
        name: How a pool calls it.
        address: As for :func:`mlepool.add`: a name, an address, with or without a
            port, a ``ws://``, ``wss://`` or ``unix:`` URL.
        port: The TCP port where ``address`` has none.
        labels: Its labels; they stand above the worker's own and its facts.
        groups: The groups that it is in, by name.
        proxy: URL of an HTTP or SOCKS proxy; None for the system's.
        connect_timeout: Seconds that connecting to it may take; None for 30.
        token_file: A file with its token; None where it was trusted.
    """

    name: str
    address: str
    port: int = DEFAULT_PORT
    labels: Mapping[str, str] = {}
    groups: tuple[str, ...] = ()
    proxy: str | None = None
    connect_timeout: float | None = None
    token_file: Path | None = None

    @property
    def place(self) -> Target:
        """Where it is, without its token.

        Raises:
            ConfigError: If its address is none.
        """
        return Target.parse(self.address, self.port)

    def target(self) -> Target:
        """Give where it is, with its token.

        Raises:
            ConfigError: If its address is none, or its token can't be read.
        """
        place = self.place
        return place if self.token_file is None else place._replace(token=self._token())

    def options(self) -> dict[str, Any]:
        """Give the keywords of an AsyncConnection to it."""
        return {
            "name": self.name,
            "labels": dict(self.labels),
            "proxy": self.proxy,
            "connect_timeout": self.connect_timeout,
        }

    def _token(self) -> str:
        path = self.token_file or Path()
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077 and os.name == "posix":
                    logger.warning("%s has a token in it, and others may read it", path)
                token = file.read(MAX_TOKEN + 1).decode("ascii").strip()
        except OSError as exc:
            raise ConfigError(
                f"the token of {self.name}: {path}: {exc.strerror}"
            ) from exc
        except ValueError:
            token = ""
        if not token or len(token) > MAX_TOKEN or not token.isprintable():
            raise ConfigError(f"the token of {self.name}: {path}: that is no token")
        return token


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All hosts, and groups of them.

    Attributes:
        path: The file; None if none was there.
        hosts: By name, in the file's order.
        groups: Names of hosts, in that order, by a group's name.
    """

    path: Path | None = None
    hosts: Mapping[str, Host] = {}
    groups: Mapping[str, tuple[str, ...]] = {}
