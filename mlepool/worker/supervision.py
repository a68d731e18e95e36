"""The worker's line to its supervisor: find it or start it, ask, be told."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

from mlepool.errors import LinkError, RemoteProtocolError, WorkerError
from mlepool.supervisor.keeper import READY, SOCKET_FILE
from mlepool.supervisor.messages import (
    VERSION,
    Fed,
    Feed,
    Finish,
    Forget,
    Greet,
    Greeting,
    Grown,
    JobEnded,
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

START_LIMIT = 20.0  # seconds for a supervisor to start, on a busy host
LOG_FILE = "supervisor.log"


class Observer(Protocol):
    """Who is told what the supervisor says."""

    def greeted(self, greeting: Greeting) -> None:
        """Take the jobs that the supervisor holds."""

    def spawned(self, spawned: Spawned) -> None:
        """Note that a start was answered."""

    def grown(self, job_id: str, position: int) -> None:
        """Note that a journal has grown."""

    def ended(self, ended: JobEnded) -> None:
        """Note that a job has ended."""

    def supervisor_lost(self) -> None:
        """Note that the supervisor is gone: nobody holds its jobs any more."""


class Supervision:
    """One supervisor, kept in reach.

    Args:
        state_dir: The worker's state folder, where the socket is.
        observer: Who is told.
    """

    def __init__(self, state_dir: Path, observer: Observer) -> None:
        self._state_dir = state_dir
        self._observer = observer
        self._link: UnixLink | None = None
        self._greeted: asyncio.Future[Greeting] | None = None
        self._stops: dict[str, list[asyncio.Future[StopReport]]] = defaultdict(list)
        self._feeds: dict[str, list[asyncio.Future[Fed]]] = defaultdict(list)
        self._closing = False

    async def open(self) -> None:
        """Connect to the supervisor; start it if there is none.

        Raises:
            WorkerError: If it can't be started or speaks another version.
        """
        path = self._state_dir / SOCKET_FILE
        try:
            self._link = await dial_unix(path)
        except LinkError:
            await self._start()
            self._link = await dial_unix(path)
        self._greeted = asyncio.get_running_loop().create_future()
        self._link.attach(self)
        self._send(Greet())
        async with asyncio.timeout(START_LIMIT):
            greeting = await self._greeted
        if greeting.version == 0:
            raise WorkerError(
                f"the running supervisor (pid {greeting.pid}) does not speak version "
                f"{VERSION}; wait until its jobs have ended"
            )
        self._observer.greeted(greeting)

    def spawn(self, order: Spawn) -> None:
        """Have a process started; the answer goes to the observer."""
        self._send(order)

    def forget(self, job_id: str) -> None:
        """Say that a job's end has been noted."""
        self._send(Forget(job_id))

    async def stop(self, order: Stop) -> StopReport:
        """Have a job stopped; several may wait for one stop."""
        future: asyncio.Future[StopReport] = asyncio.get_running_loop().create_future()
        self._stops[order.id].append(future)
        self._send(order)
        return await future

    async def feed(self, order: Feed) -> Fed:
        """Write to a job's stdin; returns when the process has taken it all."""
        target = order.offset + len(order.data)
        self._send(order)
        while True:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Fed] = loop.create_future()
            self._feeds[order.id].append(future)
            fed = await future
            if fed.closed or fed.offset >= target:
                return fed

    def close(self) -> None:
        """Leave: the supervisor ends once no job runs."""
        self._closing = True
        if self._link is not None:
            self._send(Finish())
            self._link.close()

    def frame_received(self, frame: bytes) -> None:
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
        error = WorkerError("the supervisor has ended unexpectedly")
        for waiting in (self._stops, self._feeds):
            for futures in waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            waiting.clear()
        if not self._closing:
            logger.error("lost the supervisor: %s", cause)
            self._observer.supervisor_lost()

    def _send(self, message: Any) -> None:
        if self._link is None:
            raise WorkerError("there is no supervisor; try again in a moment")
        self._link.send(encode(message))

    def _dispatch(self, message: Any) -> None:
        match message:
            case Grown():
                self._observer.grown(message.id, message.position)
            case JobEnded():
                self._observer.ended(message)
            case Spawned():
                self._observer.spawned(message)
            case Stopped():
                self._settle(self._stops, message.id, result=message.report)
            case Fed():
                self._settle(self._feeds, message.id, result=message)
            case Greeting():
                if self._greeted is not None and not self._greeted.done():
                    self._greeted.set_result(message)

    def _settle(
        self,
        waiting: dict[str, list[asyncio.Future[Any]]],
        job_id: str,
        *,
        result: Any,
    ) -> None:
        for future in waiting.pop(job_id, ()):
            if not future.done():
                future.set_result(result)

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
        loop = asyncio.get_running_loop()
        with process.stdout as ready:
            line = await asyncio.wait_for(
                loop.run_in_executor(None, ready.readline), START_LIMIT
            )
        process.returncode = 0  # never waited for: it outlives us
        if line != READY:
            log_path = self._state_dir / LOG_FILE
            raise WorkerError(f"the supervisor did not start; see {log_path}")
