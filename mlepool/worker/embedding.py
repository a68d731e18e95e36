"""A worker inside another program: one that has threads, and no event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from mlepool.settings.loop import new_event_loop
from mlepool.worker.daemon import Worker

__all__ = ["WorkerThread", "serve_in_thread"]

CLOSE_LIMIT = 60.0  # seconds for a worker to end; each of its parts has less


class WorkerThread:
    """A worker in a thread of its own: what :func:`serve_in_thread` gives.

    Use it with ``with``, or call :meth:`close`.

    Attributes:
        worker: The :class:`~mlepool.worker.Worker`; it belongs to the other thread.
        port: The TCP port that it listens on.
        address: Where it listens, for people.
    """

    worker: Worker

    def __init__(self, commands: Iterable[Any] = (), **settings: Any) -> None:
        self._make = functools.partial(Worker, commands=commands, **settings)
        self._loop = new_event_loop()
        self._ended = asyncio.Event()
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="mlepool worker", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            self._thread.join()
            raise self._problem
        self.port, self.address = self.worker.port, self.worker.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def join_url(self, host: str = "127.0.0.1") -> str:
        """Give what clients need to know, a secret: ``mlepool.add(url)`` takes it.

        Args:
            host: The name or address under which they reach this machine.
        """
        return self.worker.join_url(host)

    def reload(self, *, timeout: float | None = None) -> list[str]:
        """Read all custom commands anew; see :meth:`Worker.reload`.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
        """
        work = asyncio.run_coroutine_threadsafe(self.worker.reload(), self._loop)
        return work.result(timeout)

    def close(self) -> None:
        """End the worker; its processes go on. Twice is fine.

        Raises:
            TimeoutError: If it has not ended within 60 s.
        """
        # It has ended by itself, perhaps: then there is no loop to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(CLOSE_LIMIT)
        if self._thread.is_alive():
            raise TimeoutError(f"the worker has not ended within {CLOSE_LIMIT:g} s")

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as exc:
            # The top of a thread: who waits for the start gets it.
            self._problem = exc
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        async with self._make() as self.worker:
            self._started.set()
            await self._ended.wait()


def serve_in_thread(commands: Iterable[Any] = (), **settings: Any) -> WorkerThread:
    """Start a worker in a thread of its own; returns once it listens.

    Args:
        commands: Functions, instances, classes, files and modules, as for
            :class:`Worker`.
        **settings: As for :class:`Worker`: ``state_dir``, ``listen``, ``name``...

    Raises:
        WorkerError: If it can't start.
        LinkError: If it can't listen there.
    """
    return WorkerThread(commands, **settings)
