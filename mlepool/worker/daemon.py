"""Puts the parts of a worker together: start, serve, stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import platform
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlepool.config import SOCKET_FILE, WorkerConfig, account_dir, write_private
from mlepool.errors import WorkerError
from mlepool.transport.base import Link
from mlepool.transport.unix import UnixAcceptor, listen_unix
from mlepool.transport.websocket import WebSocketAcceptor, listen_websocket
from mlepool.version import __version__
from mlepool.wire.messages import Event, Hello
from mlepool.wire.session import NEWEST_VERSION, NONCE_SIZE, OLDEST_VERSION
from mlepool.worker.access import AccessControl, Identity
from mlepool.worker.answers import Answers
from mlepool.worker.commands import builtin_commands
from mlepool.worker.ends import LocalEnds
from mlepool.worker.jobs import JobTable
from mlepool.worker.registry import Registry
from mlepool.worker.service import Service
from mlepool.worker.state import StateBoard
from mlepool.worker.trees import Trees

__all__ = ["LOCK_FILE", "WORKERS_FOLDER", "Worker"]

LOCK_FILE = "worker.lock"
WORKERS_FOLDER = "workers"  # in the account's folder: where its workers' state is


class Worker:
    """A worker: listens, and serves clients until it is closed.

    Use it with ``async with``. Its jobs go on after it is closed.

    Args:
        config: Its settings.

    Attributes:
        identity: Key, certificate and token.
        address: Where it listens, for people; set once it listens.
        port: The TCP port that it listens on.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.name = config.name
        self.root = config.root
        self.board = StateBoard(self._state_changed)
        self.registry = Registry(builtin_commands())
        self.address = ""
        self.port = 0
        self.answers = Answers()
        self._ends = LocalEnds(config.state_dir, root=config.root, roots=config.roots)
        self.trees = Trees(self._ends, changed=self._sync_changed)
        self._services: set[Service] = set()
        self._acceptors: list[UnixAcceptor | WebSocketAcceptor] = []
        self._lock = -1

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            if hasattr(self, "identity") and self.identity.is_new:
                self.identity.discard()
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye to clients and leave; jobs go on. Twice is fine."""
        for acceptor in self._acceptors:
            await acceptor.close()
        self._acceptors.clear()
        for service in list(self._services):
            service.peer.close("ending", "the worker ends; its jobs go on")
        await self.answers.close()
        await self.trees.close()
        self._ends.close()
        if self._lock >= 0:
            if hasattr(self, "jobs"):
                self.jobs.close()
                with contextlib.suppress(OSError):
                    self._registration.unlink()
            os.close(self._lock)
            self._lock = -1

    def hello(self) -> Hello:
        """Make this worker's first message."""
        return Hello(
            OLDEST_VERSION,
            NEWEST_VERSION,
            f"mlepool {__version__}",
            self.identity.fingerprint,
            secrets.token_bytes(NONCE_SIZE),
        )

    def state(self) -> dict[str, Any]:
        """Give what clients may know of this worker. Never a secret."""
        return {
            **self.board.get(),
            "id": self.identity.fingerprint[:12],
            "name": self.name,
            "version": __version__,
            "python": platform.python_version(),
            "os": platform.system().lower(),
            "arch": platform.machine(),
            "pid": os.getpid(),
            "disk": self.jobs.disk(),
            "sync_status": self.trees.status,
        }

    def left(self, service: Service) -> None:
        """Note that a client is gone."""
        self._services.discard(service)

    def _sync_changed(self) -> None:
        self.board.update(sync_status=self.trees.status)

    def _state_changed(self, changes: dict[str, Any]) -> None:
        event = Event("state-change", changes)
        for service in tuple(self._services):
            service.tell(event)

    async def _open(self) -> None:
        folder = self.config.state_dir
        self._take_lock(folder)
        self.identity = Identity(folder)
        loop = asyncio.get_running_loop()
        self.access = AccessControl(self.identity, clock=loop.time)
        self._registration = account_dir() / WORKERS_FOLDER / self.identity.fingerprint
        config = self.config
        self.jobs = JobTable(
            folder, root=config.root, limits=config.limits, retention=config.retention
        )
        await self.jobs.open()
        listen = self.config.listen
        tcp = await listen_websocket(
            listen.host,
            listen.port,
            self._serve,
            tls=self.identity.tls() if listen.tls else None,
            channel=self.identity.channel if listen.tls else b"",
        )
        self._acceptors.append(tcp)
        self.address, self.port = tcp.address, tcp.port
        self._acceptors.append(await listen_unix(folder / SOCKET_FILE, self._serve))
        self._register(f"{folder}\n{self.port}\n")

    def _register(self, text: str) -> None:
        """Let this account's clients find us."""
        try:
            write_private(self._registration, text.encode())
        except OSError as exc:
            cause = f"the account's folder {account_dir()} is not usable: {exc}"
            raise WorkerError(cause) from exc

    def _serve(self, link: Link) -> None:
        service = Service(self, link)
        self._services.add(service)
        service.peer.start()

    def _take_lock(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            path = folder / LOCK_FILE
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise WorkerError(
                f"the state folder {folder} is not usable: {exc}"
            ) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise WorkerError(
                f"another worker runs with the state folder {folder}; "
                "give this one another with --state-dir"
            ) from None
        self._lock = lock
