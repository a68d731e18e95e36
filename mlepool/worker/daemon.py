"""Puts the parts of a worker together: start, serve, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlepool.config import SOCKET_FILE, WorkerConfig, account_dir, write_private
from mlepool.errors import WorkerError
from mlepool.settings.reading import Source
from mlepool.transport.base import Link
from mlepool.transport.unix import UnixAcceptor, listen_unix
from mlepool.transport.websocket import WebSocketAcceptor, listen_websocket
from mlepool.version import __version__
from mlepool.wire.messages import Event, Hello
from mlepool.wire.session import NEWEST_VERSION, NONCE_SIZE, OLDEST_VERSION
from mlepool.worker.access.audit import AuditLog
from mlepool.worker.access.control import AccessControl
from mlepool.worker.access.gate import Gate
from mlepool.worker.access.identity import Identity
from mlepool.worker.access.tokens import TokenStore
from mlepool.worker.answers import Answers
from mlepool.worker.assembly import make_config
from mlepool.worker.commands import builtin_commands
from mlepool.worker.custom.offering import Offering
from mlepool.worker.drain import Drain
from mlepool.worker.ends import LocalEnds
from mlepool.worker.facts import at_once, gather
from mlepool.worker.jobs import JobTable
from mlepool.worker.live import LiveConfig
from mlepool.worker.lock import take_lock
from mlepool.worker.queue.gpus import GpuDriver
from mlepool.worker.registry import Registry
from mlepool.worker.rereading import Rereader
from mlepool.worker.service import Service
from mlepool.worker.state import RunStatus, StateBoard, properties_of
from mlepool.worker.telemetry.prometheus import MetricsPage
from mlepool.worker.telemetry.sampler import Telemetry
from mlepool.worker.threads import in_thread
from mlepool.worker.trees import Trees

__all__ = ["WORKERS_FOLDER", "Worker"]

LINKS_LIMIT = 1.0  # seconds for links to end; those that don't are cut later
WORKERS_FOLDER = "workers"  # in the account's folder: where its workers' state is


class Worker:
    """A worker: listens, and serves clients until it is closed.

    Use it with ``async with``. Its jobs go on after it is closed.

    Args:
        config: Its settings; by default those of ``mlepool worker`` without flags.
        commands: Custom commands besides those of the settings: functions, instances
            and classes with methods that are commands, paths of files, names of
            modules.
        gpus: Tells of the host's GPUs; NVIDIA's driver by default.
        source: Where they come from, if they are to follow their file's changes.
        **settings: Fields of :class:`~mlepool.config.WorkerConfig`, in place of those
            of ``config``: ``state_dir="here"``, ``listen="127.0.0.1:0"``...

    Attributes:
        live: Its settings, which may change while it runs; :attr:`config` are those
            that count now.
        board: What clients are told of it.
        identity: Key, certificate and token.
        access: Judges who wants to come in.
        gate: Lets clients in, and writes down what they do.
        audit: Where that is written.
        drain: Closes it when a client has asked for that; then ``drain.ended`` is set.
        address: Where it listens, for people; set once it listens.
        port: The TCP port that it listens on.
    """

    def __init__(
        self,
        config: WorkerConfig | None = None,
        *,
        commands: Iterable[Any] = (),
        gpus: GpuDriver | None = None,
        source: Source | None = None,
        **settings: Any,
    ) -> None:
        config = make_config(config, **settings)
        self.live = LiveConfig(config)
        self._gpus = gpus
        self.root = config.root
        self._services: set[Service] = set()
        self.board = StateBoard(self._state_changed)
        self.board.update(**at_once(), version=__version__, pid=os.getpid())
        self.board.update(**properties_of(self.config, before=self.config))
        self.registry = Registry(builtin_commands())
        self._custom = Offering(
            [*config.commands, *commands],
            root=config.root,
            registry=self.registry,
            board=self.board,
            tell=self._tell,
        )
        self.address = ""
        self.port = 0
        self.answers = Answers()
        self._ends = LocalEnds(config.state_dir, root=config.root, roots=config.roots)
        self.trees = Trees(self._ends, changed=self._sync_changed)
        self.drain = Drain(self._is_answering, self.close)
        self._acceptors: list[UnixAcceptor | WebSocketAcceptor] = []
        self._lock = -1
        self._shown = self.config
        self._finding: asyncio.Task[None] | None = None
        self._rereader = Rereader(source, self.live, self.board) if source else None

    @property
    def config(self) -> WorkerConfig:
        """The settings that count now."""
        return self.live.config

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.live.config.name

    def on_reconfigured(self, hook: Callable[[WorkerConfig], None]) -> None:
        """Have a function called with all settings, after some have changed."""
        self.live.on_change(hook)

    def reread(self) -> None:
        """Read the configuration again; nothing if it came from nowhere."""
        if self._rereader is not None:
            self._rereader.reread()

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
        self.drain.close()
        links = [asyncio.ensure_future(one.leave()) for one in list(self._services)]
        await self.answers.close()
        if hasattr(self, "jobs"):
            await self.jobs.tasks.close()
        await self._custom.close()
        await self.trees.close()
        self._ends.close()
        if self._finding is not None:
            self._finding.cancel()
        if self._rereader is not None:
            self._rereader.close()
        if self._lock >= 0:
            if hasattr(self, "jobs"):
                self._run_status.close()
                self.telemetry.close()
                self.jobs.close()
                self.gate.close()
                with contextlib.suppress(OSError):
                    self._registration.unlink()
            os.close(self._lock)
            self._lock = -1
        if links:  # who embeds us may close the loop now: none is to be left open
            await asyncio.wait(links, timeout=LINKS_LIMIT)

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
            "disk": self.jobs.disk(),
            "sync_status": self.trees.status,
        }

    def left(self, service: Service) -> None:
        """Note that a client is gone."""
        self._services.discard(service)

    async def reload(self) -> list[str]:
        """Read all custom commands anew, and offer them as they are now.

        Connected clients are told. What runs goes on with the old code. A source that
        is broken now stays as it was.

        Returns:
            What is wrong with any of them, as ``file:line: what``; in the worker's
            state, as ``load_errors``, of an exception its type alone.
        """
        return await self._custom.reload()

    def join_url(self, host: str = "127.0.0.1") -> str:
        """Give what clients need to know, a secret: ``mlepool.add(url)`` takes it.

        Args:
            host: The name or address under which they reach this machine.
        """
        url = self.identity.join_url(host, self.port)
        return url if self.config.listen.tls else f"{url}&scheme=ws"

    def _is_answering(self) -> bool:
        if len(self.jobs.tasks):
            return True
        return self.answers.is_busy or self.trees.status == "syncing"

    def _sync_changed(self) -> None:
        self.board.update(sync_status=self.trees.status)

    def _reconfigured(self, config: WorkerConfig) -> None:
        self.board.update(**properties_of(config, before=self._shown))
        self._shown = config
        self._ends.allow(config.roots)
        self.audit.size = config.audit_size
        self.jobs.reconfigure(config.limits, config.retention)
        self.jobs.set_max_concurrent(config.max_concurrent)
        self.telemetry.reconfigure(config)

    async def _find_facts(self) -> None:
        self.board.update(**await in_thread(gather, name="facts"))

    def _state_changed(self, changes: dict[str, Any]) -> None:
        self._tell(Event("state-change", changes))

    def _tell(self, event: Event) -> None:
        for service in tuple(self._services):
            service.tell(event)

    async def _open(self) -> None:
        folder = self.config.state_dir
        self._lock = take_lock(folder)
        self.identity = Identity(folder)
        tokens = TokenStore(folder)
        clock = asyncio.get_running_loop().time
        self.access = AccessControl(tokens, clock=clock)
        self._registration = account_dir() / WORKERS_FOLDER / self.identity.fingerprint
        await self._open_jobs(tokens)
        await self._custom.open(is_watched=self.config.reload)
        self.on_reconfigured(self._reconfigured)
        await self._listen(folder)
        scheme = "wss" if self.config.listen.tls else "ws"
        self._register(f"{folder}\n{self.port}\n{scheme}\n")
        self._finding = asyncio.create_task(self._find_facts())
        if self._rereader is not None:
            self._rereader.open()

    async def _open_jobs(self, tokens: TokenStore) -> None:
        """Find the jobs that run, and whoever counts and writes down what they do."""
        config = self.config
        self.jobs = JobTable(
            config.state_dir,
            root=config.root,
            limits=config.limits,
            retention=config.retention,
            max_concurrent=config.max_concurrent,
            gpus=self._gpus,
            tell=self.board.update,
        )
        self.telemetry = Telemetry(config, jobs=self.jobs.leaders, gpus=self._gpus)
        self._run_status = RunStatus(self.board, self.jobs.is_busy)
        self.jobs.on_change(self._run_status.note)
        self.audit = AuditLog(config.state_dir, size=config.audit_size)
        self.gate = Gate(tokens, self.access, audit=self.audit, jobs=self.jobs)
        self.jobs.on_end(self.gate.job_ended)
        await self.jobs.open()
        self.gate.note_past(self.jobs.listing())
        self.telemetry.open()

    async def _listen(self, folder: Path) -> None:
        self.page = MetricsPage(
            self.telemetry, self.access, audit=self.audit, settings=lambda: self.config
        )
        listen = self.config.listen
        tcp = await listen_websocket(
            listen.host,
            listen.port,
            self._serve,
            tls=self.identity.tls() if listen.tls else None,
            channel=self.identity.channel if listen.tls else b"",
            answer=self.page.answer,
        )
        self._acceptors.append(tcp)
        self.address, self.port = tcp.address, tcp.port
        self._acceptors.append(await listen_unix(folder / SOCKET_FILE, self._serve))

    def _register(self, text: str) -> None:
        """Let this account's clients find us."""
        try:
            write_private(self._registration, os.fsencode(text))
        except OSError as exc:
            cause = f"the account's folder {account_dir()} is not usable: {exc}"
            raise WorkerError(cause) from exc

    def _serve(self, link: Link) -> None:
        service = Service(self, link)
        self._services.add(service)
        service.peer.start()
