"""The background thread that runs the event loop of the blocking face."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from mlepool.client.checks import check_wait
from mlepool.errors import MlepoolError, PortalError
from mlepool.settings.loop import new_event_loop

__all__ = ["Errand", "Portal", "shorten"]

logger = logging.getLogger("mlepool.client")

T = TypeVar("T")

STOP_LIMIT = 2.0  # seconds for the loop's last tasks when the interpreter ends


class Errand(Protocol):
    """What a thread waits for while the loop does it."""

    def start(self) -> None:
        """Begin, in the loop's thread."""

    def cancel(self) -> None:
        """Give it up, in the loop's thread: nobody waits any more."""

    def wait(self, lock_timeout: float) -> bool:
        """Wait in the caller's thread; False if it took longer."""


class Portal:
    """Runs coroutines for threads that block on them.

    The thread is started by the first call. It is a daemon, and it is stopped before
    the interpreter tears itself down; calls after that, from a forked child, or from
    the loop's own thread are refused with a clear error instead of hanging.
    """

    def __init__(self) -> None:
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._is_running = False
        self._has_ended = False

    def call(
        self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None
    ) -> T:
        """Run a coroutine in the loop and wait for its result.

        Args:
            coroutine: What to run.
            timeout: Seconds to wait; then it is cancelled.

        Raises:
            TimeoutError: If it takes longer.
            TypeError, ValueError: If the timeout is no number.
            KeyboardInterrupt: On Ctrl-C; the coroutine is cancelled.
            PortalError: If the loop can't take calls here or any more.
        """
        try:
            loop, limit = self._running_loop(), _lock_timeout(timeout)
        except (PortalError, TypeError, ValueError):
            coroutine.close()
            raise
        call = _Call(coroutine)
        if not self._wait_for(call, loop, limit):
            raise TimeoutError(f"not done within {timeout:g} s")
        return call.result()  # type: ignore[no-any-return]

    def wait_for(self, errand: Errand) -> None:
        """Start something in the loop and wait for its end.

        Raises:
            KeyboardInterrupt: On Ctrl-C; it is cancelled.
            PortalError: If the loop can't take calls here or any more.
        """
        self._wait_for(errand, self._running_loop(), _lock_timeout(None))

    def do(self, function: Callable[[], T]) -> T:
        """Call a function in the loop's thread and wait for what it returns.

        In that very thread it is just called: in callbacks one may look at things.
        """
        if self._thread is threading.current_thread():
            return function()

        async def run() -> T:
            return function()

        return self.call(run())

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in the loop's thread soon; nothing once it has ended."""
        loop = self._loop
        if loop is not None and self._is_alive():
            loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """End the thread; links are dropped, jobs go on. Twice is fine."""
        self._has_ended = True
        thread, loop = self._thread, self._loop
        if loop is not None and thread is not None and self._is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_LIMIT)

    def _is_alive(self) -> bool:
        # Not by Thread.is_alive(): Ctrl-C in that makes Python take it for ended.
        return self._is_running and self._pid == os.getpid()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._has_ended:
            if threading.current_thread().daemon:
                # Nobody waits for it at the interpreter's end, or looks at what it
                # raises: it stands still, as in Python's own calls.
                threading.Event().wait()
            raise PortalError("the interpreter is ending: mlepool takes no calls now")
        if self._thread is None:
            with self._start_lock:
                if self._thread is None:
                    self._start()
        if self._thread is threading.current_thread():
            raise PortalError(
                "a blocking call from mlepool's own thread would never return; in a "
                "callback use the Async classes"
            )
        if not self._is_alive():
            raise PortalError(
                "this connection belongs to the process before fork(); add() a new "
                "one in the child"
            )
        assert self._loop is not None
        return self._loop

    def _start(self) -> None:
        started = threading.Event()
        loop = new_event_loop()
        self._pid = os.getpid()
        self._loop = loop
        thread = threading.Thread(
            target=self._run, args=(loop, started), name="mlepool", daemon=True
        )
        thread.start()
        started.wait()
        atexit.register(self.stop)
        self._thread = thread

    def _run(self, loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        self._is_running = True
        loop.call_soon(started.set)
        try:
            self._run_on(loop)
            while not self._has_ended:
                self._run_on(loop)
        finally:
            self._is_running = False
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            gathered = asyncio.gather(*tasks, return_exceptions=True)
            loop.run_until_complete(asyncio.wait([gathered], timeout=1.0))
            loop.close()

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until it is stopped, or something ends it that should not."""
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # Of somebody's code. It ends a program in its main thread; here it would
            # end what all others wait for.
            logger.exception("what is to end a program was raised in mlepool's thread")

    def _wait_for(
        self, errand: Errand, loop: asyncio.AbstractEventLoop, limit: float
    ) -> bool:
        """Give False if it takes longer; then it is cancelled."""
        is_done = False
        loop.call_soon_threadsafe(errand.start)
        try:
            is_done = errand.wait(limit)
        finally:
            if not is_done and self._is_alive():
                loop.call_soon_threadsafe(errand.cancel)
        return is_done


class _Call:
    """One coroutine on its way through the loop.

    A lock that is let go by the loop: half the price of a concurrent Future. It is let
    go within the task: what a task calls back comes a turn of the loop later.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if inspect.getcoroutinestate(self._coroutine) == inspect.CORO_CREATED:
            self._coroutine.close()

    def wait(self, lock_timeout: float) -> bool:
        return self._done.acquire(timeout=lock_timeout)

    def result(self) -> Any:
        if self._error is None:
            return self._value
        try:
            raise self._error
        except Exception as exc:
            shorten(exc)
            raise
        finally:
            self._error = None  # it would hold its own frames

    async def _run(self) -> None:
        try:
            self._value = await self._coroutine
        except BaseException as exc:
            self._error = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            # It is not to end with us, in the caller's thread: what Python does then
            # would swallow Ctrl-C.
            self._task = None
            self._done.release()


def shorten(exc: Exception) -> None:
    """Leave out what an error came through in here, if it says itself what is wrong."""
    is_file = isinstance(exc, OSError) and exc.filename is not None
    if is_file or isinstance(exc, MlepoolError):
        exc.__traceback__ = None


def _lock_timeout(timeout: float | None) -> float:
    """Give what a lock is to be told: it knows no infinity, and -1 for no limit."""
    check_wait(timeout)
    if timeout is None:
        return -1
    return min(max(0.0, timeout), threading.TIMEOUT_MAX)
