"""FunctionExecutor: the pool as an executor of concurrent.futures."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mlepool.client.connection import AsyncConnection
from mlepool.client.functions import Lanes, Work, pack
from mlepool.client.portal import Portal

__all__ = ["FunctionExecutor"]

T = TypeVar("T")


class FunctionExecutor(concurrent.futures.Executor):
    """Calls Python functions on the workers of a pool, or of a group.

    As any executor of :mod:`concurrent.futures`: ``submit()``, ``map()``,
    ``shutdown()``, ``with``. Function, arguments and result travel as pickles, made by
    cloudpickle, so lambdas and functions of ``__main__`` will do; modules that they
    import have to be on the worker. Python's minor version should be the same on both
    sides.

    A call runs on one worker, once: if that is lost, its outcome is unknown and its
    future raises; nothing is called again. What a function raises, the future raises,
    with the traceback from there in a note.

    Args:
        connections: The ways to the workers.
        portal: What runs the event loop.
        slots: Calls at once on each; None for as many as its host has processors.
        echo_response: Print what functions print, with the host's name.
    """

    def __init__(
        self,
        connections: Iterable[AsyncConnection],
        portal: Portal,
        *,
        slots: int | None,
        echo_response: bool,
    ) -> None:
        if slots is not None and (isinstance(slots, bool) or slots < 1):
            raise ValueError(f"slots must be 1 or more, not {slots!r}")
        self._portal = portal
        self._lanes = Lanes(
            connections, slots=slots, tell=_print if echo_response else None
        )
        self._lock = threading.Lock()
        self._is_shut = False
        self._pending: set[concurrent.futures.Future[Any]] = set()

    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """Have ``fn(*args, **kwargs)`` called on some worker.

        Raises:
            ClientError: If cloudpickle is not installed.
            RuntimeError: After shutdown().
            Exception: What pickling raises, for what can't be pickled.
        """
        call = pack(fn, args, kwargs)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.add(future)
        future.add_done_callback(self._ended)
        self._portal.do(lambda: self._lanes.take(Work(future, call)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take no more calls. Twice is fine.

        Args:
            wait: Until all that were submitted have ended.
            cancel_futures: Cancel those that have not begun.
        """
        with self._lock:
            self._is_shut = True
            pending = list(self._pending)
        if cancel_futures and pending:
            self._portal.do(self._lanes.drop_waiting)
        if wait:
            concurrent.futures.wait(pending)

    def _ended(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)


def _print(host: str, line: Any) -> None:
    print(f"{host}: {line}", file=sys.stderr, flush=True)  # noqa: T201
