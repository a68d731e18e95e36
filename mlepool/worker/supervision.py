"""The worker's line to its supervisor: find it or start it, ask, be told."""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

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
from mlepool.worker.orders import Orders

__all__ = ["Observer", "Supervision"]

logger = logging.getLogger("mlepool.worker")

MAX_FRAME = 1024 * 1024  # bytes; the supervisor takes no longer one
RETRY_AFTER = 0.05  # seconds before looking again for a supervisor that was ending
START_LIMIT = 20.0  # seconds for a supervisor to start, on a busy host
LOG_FILE = "supervisor.log"


class State(enum.Enum):
    """Whether there is a supervisor."""

    DOWN = "down"
    COMING = "coming"
    UP = "up"


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
        """Note that the supervisor is gone; call :meth:`Supervision.open` again."""


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
        self._state = State.DOWN
        self._orders = Orders()
        self._acts: dict[type, Callable[[Any], None]] = {
            Grown: observer.grown,
            Pressed: lambda _: observer.pressed(),
            JobEnded: self._ended,
            Spawned: observer.spawned,
            Stopped: self._orders.stopped,
            Fed: self._orders.fed,
            Greeting: self._greeting,
        }

    @property
    def is_up(self) -> bool:
        """True if there is a supervisor just now."""
        return self._state is State.UP

    async def open(self) -> None:
        """Connect to the supervisor; start it if there is none.

        Raises:
            WorkerError: If it can't be started, does not answer, or speaks another
                version.
        """
        self._state = State.COMING
        try:
            async with asyncio.timeout(START_LIMIT):
                greeting = await self._greet()
            if greeting.version == 0:
                raise WorkerError(
                    f"the running supervisor (pid {greeting.pid}) speaks no version of "
                    f"{OLDEST_VERSION} to {VERSION}; wait until its jobs have ended"
                )
        except TimeoutError:
            cause = f"the supervisor does not answer within {START_LIMIT:g} s"
            self._give_up(cause)
            raise WorkerError(cause) from None
        except BaseException as exc:
            self._give_up(f"no supervisor could be started: {exc}")
            raise

    def spawn(self, order: Spawn) -> None:
        """Have a process started; the answer goes to the observer.

        Nothing if there is no supervisor just now: the next one is asked.

        Raises:
            OSError: If the command is too long.
        """
        if self._link is not None:
            self._send(order)

    def change_limits(self, limits: Limits) -> None:
        """Have other limits for the jobs that are started from now on."""
        self._greet_with = msgspec.structs.replace(self._greet_with, limits=limits)
        if self._state is State.UP:
            self._send(self._greet_with)  # its answer says nothing new

    def attend(self, attend: Attend) -> None:
        """Say if anybody reads a job; nothing if there is no supervisor just now."""
        if self._link is not None:
            self._send(attend)

    def resize(self, order: Resize) -> None:
        """Resize a job's terminal; nothing if there is no supervisor just now.

        The terminal ends with its supervisor, and so does who sits at it.
        """
        if self._link is not None:
            self._send(order)

    async def stop(self, order: Stop) -> StopReport:
        """Have a job stopped; several may wait for one stop.

        A supervisor that was killed has a successor soon, which does it then.

        Raises:
            WorkerError: If there is none, and none could be started.
        """
        self._ask(order)
        return await self._orders.add_stop(order)

    async def feed(self, order: Feed) -> Fed:
        """Write to a job's stdin; returns when the process has taken it all.

        One at a time for each job: an answer does not say which order it is to. The
        successor of a supervisor that was killed says that stdin is closed.

        Raises:
            WorkerError: If there is none, and none could be started.
        """
        self._ask(order)
        return await self._orders.add_feed(order)

    def _ask(self, order: Stop | Feed) -> None:
        if self._state is State.UP:
            self._send(order)
        elif self._state is State.DOWN:
            raise WorkerError("there is no supervisor; try again in a moment")

    def _give_up(self, cause: str) -> None:
        self._state = State.DOWN
        self._orders.fail(cause)

    def close(self) -> None:
        """Leave: the supervisor ends once no job runs."""
        self._give_up("the worker ends")
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
        if self._state is State.UP:
            self._state = State.COMING  # since the observer opens again
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
        self._orders.fed(Fed(ended.id, 0, closed=True))
        self._observer.ended(ended)

    def _greeting(self, greeting: Greeting) -> None:
        if self._greeted is not None and not self._greeted.done():
            if greeting.version:
                self._state = State.UP
                self._observer.greeted(greeting)  # now: what follows builds on it
                for order in self._orders.unanswered():
                    self._send(order)
            self._greeted.set_result(greeting)

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
