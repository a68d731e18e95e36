"""Waits for descriptors, at two thirds of the price of the standard library."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["READ", "WRITE", "Waiter"]

READ, WRITE = select.POLLIN, select.POLLOUT  # those of epoll(7) are the same


class _HasNumber(Protocol):
    def fileno(self) -> int:
        """Give a descriptor."""


class Waiter:
    """Descriptors, and what is to be called once each can be read or written.

    By epoll(7); elsewhere than on Linux by poll(2), which takes longer with many.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._kernel: Any = self._epoll or select.poll()

    def register(
        self, source: int | _HasNumber, events: int, callback: Callable[[], object]
    ) -> None:
        """Wait for a descriptor from now on.

        Args:
            source: The descriptor, or what has one.
            events: READ, WRITE or both.
            callback: Called when it is ready, has ended, or is broken.

        Raises:
            KeyError: If it is waited for already.
        """
        fd = _number(source)
        if fd in self._callbacks:
            raise KeyError(f"descriptor {fd} is waited for already")
        self._kernel.register(fd, events)
        self._callbacks[fd] = callback

    def modify(
        self, source: int | _HasNumber, events: int, callback: Callable[[], object]
    ) -> None:
        """Wait for something else of a descriptor.

        Raises:
            FileNotFoundError: If it is not waited for.
        """
        fd = _number(source)
        self._kernel.modify(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, source: int | _HasNumber) -> None:
        """Wait for a descriptor no more.

        Raises:
            KeyError: If it is not waited for.
        """
        fd = _number(source)
        del self._callbacks[fd]
        try:  # for each pipe of each job: contextlib takes longer
            self._kernel.unregister(fd)
        except OSError:
            return  # it was closed: the kernel forgot it then

    def wait(self, timeout: float | None) -> list[Callable[[], object]]:
        """Wait until something is ready.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Returns:
            What is to be called; nothing when the time is over.
        """
        if self._epoll is not None:
            most = len(self._callbacks) or 1
            ready = self._epoll.poll(timeout, most)
        else:
            ready = self._kernel.poll(None if timeout is None else timeout * 1000)
        callbacks = self._callbacks
        # Taken now: one of them may have others unregistered, and new ones in place.
        return [callbacks[fd] for fd, _ in ready if fd in callbacks]

    def close(self) -> None:
        """Wait for nothing more."""
        if self._epoll is not None:
            self._epoll.close()


def _number(source: int | _HasNumber) -> int:
    return source if isinstance(source, int) else source.fileno()
