"""The worker's line to its supervisor: find it or start it, ask, be told."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from mlepool.config import Limits
from mlepool.errors import LinkError, RemoteProtocolError, WorkerError
from mlepool.supervisor.messages import (
    OLDEST_VERSION,
    READY,
    SOCKET_FILE,
    VERSION,
    Attend,
    Fed,
    Feed,
    Finish,
    Greet,
    Greeting,
    Grown,
    JobEnded,
    Pressed,
    Resize,
    Spawn,
    Spawned,
    Stop,
    Stopped,
    decode_from_supervisor,
    encode,
)
from mlepool.transport.unix import UnixLink, dial_unix
from mlepool.wire.values import StopReport

__all__ = ["Observer", "Supervision"]

logger = logging.getLogger("mlepool.worker")

MAX_FRAME = 1024 * 1024  # bytes; the supervisor takes no longer one
RETRY_AFTER = 0.05  # seconds before looking again for a supervisor that was ending
START_LIMIT = 20.0  # seconds for a supervisor to start, on a busy host
LOG_FILE = "supervisor.log"


class Observer(Protocol):
    """Who is told what the supervisor says."""

    def greeted(self, greeting: Greeting) -> None:
        """Take the jobs that the supervisor holds."""

    def spawned(self, spawned: Spawned) -> None:
        """Note that a start was answered."""

    def grown(self, grown: Grown) -> None:
        """Note that a journal has grown."""

    def pressed(self) -> None:
        """Note that the disk gets full."""

    def ended(self, ended: JobEnded) -> None:
        """Note that a job has ended."""

    def supervisor_lost(self) -> None:
        """Note that the supervisor is gone: nobody holds its jobs any more."""


class Supervision:
    """One supervisor, kept in reach.

    Args:
        state_dir: The worker's state folder, where the socket is.
        observer: Who is told.
        environment: What jobs get, besides what each one asks for.
        limits: What their journals may take.
    """

    def __init__(
        self,
        state_dir: Path,
        observer: Observer,
        *,
        environment: dict[bytes, bytes],
        limits: Limits,
    ) -> None:
        self._greet_with = Greet(OLDEST_VERSION, VERSION, environment, limits)
        self._state_dir = state_dir
        self._observer = observer
        self._link: UnixLink | None = None
        self._greeted: asyncio.Future[Greeting] | None = None
        self._stops: dict[str, list[asyncio.Future[StopReport]]] = defaultdict(list)
        self._feeds: dict[str, list[tuple[int, asyncio.Future[Fed]]]] = defaultdict(
            list
        )
        self._closing = False
        self._acts: dict[type, Callable[[Any], None]] = {
            Grown: observer.grown,
            Pressed: lambda _: observer.pressed(),
            JobEnded: self._ended,
            Spawned: observer.spawned,
            Stopped: self._stopped,
            Fed: self._fed,
            Greeting: self._greeting,
        }

    async def open(self) -> None:
        """Connect to the supervisor; start it if there is none.

        Raises:
            WorkerError: If it can't be started, does not answer, or speaks another
                version.
        """
        try:
            async with asyncio.timeout(START_LIMIT):
                greeting = await self._greet()
        except TimeoutError:
            cause = f"the supervisor does not answer within {START_LIMIT:g} s"
            raise WorkerError(cause) from None
        if greeting.version == 0:
            raise WorkerError(
                f"the running supervisor (pid {greeting.pid}) speaks no version of "
                f"{OLDEST_VERSION} to {VERSION}; wait until its jobs have ended"
            )

    def spawn(self, order: Spawn) -> None:
        """Have a process started; the answer goes to the observer.

        Raises:
            OSError: If the command is too long.
            WorkerError: If there is no supervisor just now.
        """
        self._send(order)

    def attend(self, attend: Attend) -> None:
        """Say if anybody reads a job; nothing if there is no supervisor just now."""
        if self._link is not None:
            self._send(attend)

    def resize(self, order: Resize) -> None:
        """Have a job's terminal given another size.

        Raises:
            WorkerError: If there is no supervisor just now.
        """
        self._send(order)

    async def stop(self, order: Stop) -> StopReport:
        """Have a job stopped; several may wait for one stop."""
        future: asyncio.Future[StopReport] = asyncio.get_running_loop().create_future()
        self._stops[order.id].append(future)
        self._send(order)
        return await future

    async def feed(self, order: Feed) -> Fed:
        """Write to a job's stdin; returns when the process has taken it all.

        One at a time for each job: an answer does not say which order it is to.
        """
        future: asyncio.Future[Fed] = asyncio.get_running_loop().create_future()
        target = order.offset + len(order.data)
        self._feeds[order.id].append((target, future))
        self._send(order)
        return await future

    def close(self) -> None:
        """Leave: the supervisor ends once no job runs."""
        self._closing = True
        if self._link is not None:
            self._send(Finish())
            self._link.close()

    def frame_received(self, frame: bytes | memoryview) -> None:
        """Take a frame (link)."""
        try:
            self._dispatch(decode_from_supervisor(frame))
        except RemoteProtocolError as exc:
            logger.error("the supervisor broke the protocol: %s", exc)
            assert self._link is not None
            self._link.close()

    def bytes_received(self) -> None:
        """Nothing to note: the kernel says if a process on this host is gone."""

    def writable(self) -> None:
        """Nothing to do: what goes to the supervisor is small."""

    def link_lost(self, cause: str) -> None:
        """Note that the supervisor is gone (link)."""
        self._link = None
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(LinkError("other", cause))
            return
        error = WorkerError("the supervisor has ended unexpectedly")
        waiting: list[asyncio.Future[Any]] = []
        for futures in self._stops.values():
            waiting += futures
        for pairs in self._feeds.values():
            waiting += [future for _, future in pairs]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._stops.clear()
        self._feeds.clear()
        if not self._closing:
            logger.error("lost the supervisor: %s", cause)
            self._observer.supervisor_lost()

    def _send(self, message: Any) -> None:
        if self._link is None:
            raise WorkerError("there is no supervisor; try again in a moment")
        frame = encode(message)
        if len(frame) > MAX_FRAME:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self._link.send(frame)

    def _dispatch(self, message: Any) -> None:
        self._acts[type(message)](message)

    def _ended(self, ended: JobEnded) -> None:
        self._fed(Fed(ended.id, 0, closed=True))
        self._observer.ended(ended)

    def _greeting(self, greeting: Greeting) -> None:
        if self._greeted is not None and not self._greeted.done():
            if greeting.version:
                self._observer.greeted(greeting)  # now: what follows builds on it
            self._greeted.set_result(greeting)

    def _stopped(self, stopped: Stopped) -> None:
        for future in self._stops.pop(stopped.id, ()):
            if not future.done():
                future.set_result(stopped.report)

    def _fed(self, fed: Fed) -> None:
        """Settle those whose input is taken; the others wait for the next answer."""
        is_final = fed.closed or bool(fed.problem)
        left = []
        for target, future in self._feeds.pop(fed.id, ()):
            if not is_final and fed.offset < target:
                left.append((target, future))
            elif not future.done():
                future.set_result(fed)
        if left:
            self._feeds[fed.id] = left

    async def _greet(self) -> Greeting:
        """Say hello, again if the supervisor was just about to end."""
        while True:
            try:
                self._link = await self._reach()
                self._greeted = asyncio.get_running_loop().create_future()
                self._send(self._greet_with)
                self._link.attach(self)
                return await self._greeted
            except LinkError:
                await asyncio.sleep(RETRY_AFTER)

    async def _reach(self) -> UnixLink:
        path = self._state_dir / SOCKET_FILE
        try:
            return await dial_unix(path)
        except LinkError:
            await self._start()
            return await dial_unix(path)

    async def _start(self) -> None:
        """Start a supervisor that outlives this process."""
        with open(self._state_dir / LOG_FILE, "ab") as log:  # noqa: ASYNC230
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "mlepool.supervisor", str(self._state_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        assert process.stdout is not None
        process.returncode = 0  # not waited for here: as a rule it outlives us
        pid = process.pid
        threading.Thread(
            target=os.waitpid, args=(pid, 0), name="reap", daemon=True
        ).start()
        with process.stdout as ready:
            await _readable(ready)
            said = os.read(ready.fileno(), len(READY))
        if said != READY:
            log_path = self._state_dir / LOG_FILE
            raise WorkerError(f"the supervisor did not start; see {log_path}")


async def _readable(file: IO[bytes]) -> None:
    """Wait until there is something to read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
