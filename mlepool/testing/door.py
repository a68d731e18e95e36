"""A place to listen that can be shut and opened again at the same address."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

__all__ = ["Door", "LocalPlace", "Place", "dial", "resolve"]

HERE = "127.0.0.1"

LocalPlace = int | str | os.PathLike[str]
Place = LocalPlace | tuple[str, int]


class Door:
    """A listening socket on loopback or at a path, which nobody else takes while shut.

    Args:
        listen: The port, 0 for any; or the path of a unix socket for this account.

    Attributes:
        address: Where it is, as the socket module has it.
        listener: The listening socket, non-blocking; None while it is shut.

    Raises:
        OSError: If it can't listen there.
    """

    def __init__(self, listen: LocalPlace) -> None:
        self.is_unix = not isinstance(listen, int)
        self.address: Any = resolve(listen)
        self.listener: socket.socket | None = None
        self._holder: socket.socket | None = None
        if not self.is_unix and hasattr(socket, "SO_REUSEPORT"):
            # Bound and never listening: it keeps the port ours while we are shut.
            self._holder = self._bound()
            self.address = self._holder.getsockname()
        self.open()

    def __str__(self) -> str:
        return f"unix:{self.address}" if self.is_unix else f"{HERE}:{self.address[1]}"

    def open(self) -> None:
        """Listen, if it does not."""
        if self.listener is not None:
            return
        if self.is_unix and Path(self.address).is_socket():
            Path(self.address).unlink()  # ours, or one whose owner is gone
        sock = self._bound()
        if self.is_unix:
            Path(self.address).chmod(0o600)
        sock.setblocking(False)
        sock.listen()
        self.listener, self.address = sock, sock.getsockname()

    def shut(self) -> None:
        """Have connections refused."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def close(self) -> None:
        """Give the place up."""
        self.shut()
        if self._holder is not None:
            self._holder.close()
        if self.is_unix:
            Path(self.address).unlink(missing_ok=True)

    def _bound(self) -> socket.socket:
        sock = _socket(self.address)
        try:
            if not self.is_unix and hasattr(socket, "SO_REUSEPORT"):
                # Not SO_REUSEADDR: with that, others could take the port while shut.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(self.address)
        except BaseException:
            sock.close()
            raise
        return sock


def resolve(place: Place) -> Any:
    """Give what bind() and connect() take: a path, or an address without a name.

    Raises:
        OSError: If a host has no address.
    """
    if isinstance(place, int):
        return HERE, place
    if isinstance(place, tuple):
        return socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][4]
    return os.fspath(place)


def dial(address: Any) -> socket.socket:
    """Begin to connect; how that went is seen when the socket is writable."""
    sock = _socket(address)
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.connect(address)
    return sock


def _socket(address: Any) -> socket.socket:
    if isinstance(address, str):
        return socket.socket(socket.AF_UNIX)
    sock = socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
