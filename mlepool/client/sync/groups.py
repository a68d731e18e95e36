"""Group: many hosts as one, blocking. Calls through the portal."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from mlepool.client.catalogue.signatures import like
from mlepool.client.connection import AsyncConnection
from mlepool.client.files.methods import Path
from mlepool.client.groups.group import (
    AsyncGroup,
    GroupVerbs as AsyncGroupVerbs,
    described,
    print_from,
)
from mlepool.client.groups.limits import Batch
from mlepool.client.groups.methods import GroupMethod, offered_by
from mlepool.client.handles import Handle
from mlepool.client.portal import Portal
from mlepool.client.sync.connection import Connection
from mlepool.client.sync.group_listener import GroupListener
from mlepool.client.sync.pages import connections_page
from mlepool.client.sync.sweep_methods import SweepMethods

if TYPE_CHECKING:
    from mlepool.client.sync.dask import DaskClient
    from mlepool.client.sync.executor import FunctionExecutor

__all__ = ["Group", "GroupListener", "GroupVerbs"]

# Pickles: loaded for who asks for them, and for nobody else.
_EXECUTOR = "mlepool.client.sync.executor"
_DASK = "mlepool.client.sync.dask"  # takes a second to load


class GroupVerbs(SweepMethods, Handle):
    """As :class:`mlepool.client.groups.group.GroupVerbs`, but blocking."""

    _async: AsyncGroupVerbs
    _portal: Portal

    def _face(self, connection: AsyncConnection) -> Connection:
        raise NotImplementedError

    def _group(self, group: AsyncGroup) -> Group:
        return Group(group, self._portal, face=self._face)

    @property
    def names(self) -> list[str]:
        """The names of the connections, in the pool's order."""
        return self._async.names

    def __len__(self) -> int:
        return len(self._async)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Connection]:
        return iter([self._face(one) for one in self._async])

    def __contains__(self, name: object) -> bool:
        return getattr(name, "_async", name) in self._async

    def __getitem__(self, key: str) -> Any:
        """Give a connection by its name, or a group by a set of names.

        A set has names, ranges, wildcards and ``@groups``: ``gpu[1-8],!gpu3``,
        ``@train``, ``gpu*``.

        Raises:
            KeyError: If a name is not there; says what is near.
            ConfigError: If it can't be read: shows where.
        """
        found = self._async[key]
        is_one = isinstance(found, AsyncConnection)
        return self._face(found) if is_one else self._group(found)

    def group(self, *names: str) -> Group:
        """Make a group of some members; each name may be a set, too.

        Raises:
            KeyError, ConfigError: As ``group[name]``.
        """
        return self._group(self._async.group(*names))

    def select(self, selector: str) -> Group:
        """Make a group of the members whose labels and facts fit.

        Labels are those of the connection, and of the worker; facts are its
        :attr:`~Connection.state`, known once it was connected.

        Args:
            selector: As in Kubernetes: ``gpu=a100,zone in (a,b),!broken``.

        Raises:
            ConfigError: If it can't be read: shows where.
        """
        return self._group(self._async.select(selector))

    def connect(
        self, *, max_parallel: int | None = None, timeout: float | None = None
    ) -> None:
        """Connect all that are not connected, side by side.

        Args:
            max_parallel: How many at once; 100 by default.
            timeout: Seconds for all.

        Raises:
            ExceptionGroup: Of every ConnectError; the others are connected.
        """
        self._portal.call(self._async.connect(max_parallel=max_parallel), timeout)

    def executor(
        self, *, slots: int | None = None, echo_response: bool = False
    ) -> FunctionExecutor:
        """Make an executor of :mod:`concurrent.futures` whose workers these are.

        Their workers have to offer it (``--commands mlepool.worker.functions``), and
        this client needs the role ``admin`` there: what is sent is code.

        Args:
            slots: Calls at once on each; by default as many as its host has processors.
            echo_response: Print what functions print, with the host's name.
        """
        made = importlib.import_module(_EXECUTOR).FunctionExecutor(
            self._async, self._portal, slots=slots, echo_response=echo_response
        )
        return cast("FunctionExecutor", made)

    def dask(
        self,
        *,
        scheduler: str | None = None,
        workers_per_host: int = 1,
        threads: int | None = None,
        memory_limit: str | float | None = None,
        python: str | None = None,
        address: str | None = None,
        orphan_timeout: float = 60.0,
        timeout: float = 60.0,
    ) -> DaskClient:
        """Start a Dask cluster on these hosts, and connect to it.

        Its parts are jobs, and talk over TLS with certificates of their own. The
        client's ``close()`` stops all, and leaves nothing on the hosts.

        Args:
            scheduler: Name of the host that runs the scheduler, too; the first.
            workers_per_host: Processes on each host.
            threads: Threads of each; by default the host's processors, shared.
            memory_limit: Of each, as Dask has it (``"4 GiB"``); by default a share.
            python: The program that runs it there; by default what runs mlepool's
                worker. It needs ``distributed``, in this client's version.
            address: ``tls://host:port``, ``host:port`` or ``host`` by which this
                client and all hosts reach the scheduler; by default its connection's
                host, and any free port.
            orphan_timeout: Seconds for which it goes on where this client is killed,
                or cut off.
            timeout: Seconds for the start.

        Raises:
            ClientError: If it can't be started everywhere: names hosts, and what to
                do; or if ``distributed`` is missing here.
            ValueError, KeyError: If there is no host, or an argument makes no sense.
        """
        made = importlib.import_module(_DASK).start(
            self._async,
            self._portal,
            timeout=timeout,
            scheduler=scheduler,
            workers_per_host=workers_per_host,
            threads=threads,
            memory_limit=memory_limit,
            python=python,
            address=address,
            orphan_timeout=orphan_timeout,
        )
        return cast("DaskClient", made)

    @like(AsyncGroupVerbs.run)
    def run(
        self,
        command: str | Sequence[Any],
        *,
        max_parallel: int | None = None,
        batch: Batch | None = None,
        fail_fast: bool = False,
        max_failures: int | str | None = None,
        retries: int = 0,
        retry_lost: bool = False,
        connect_timeout: float | None = None,
        **keywords: Any,
    ) -> GroupListener:
        """Run a command on all hosts.

        Ctrl-C while this waits leaves the jobs running and says their ids; where it
        waits to begin, it never will.
        """
        return self.call_named(
            *("run", command),
            max_parallel=max_parallel,
            batch=batch,
            fail_fast=fail_fast,
            max_failures=max_failures,
            retries=retries,
            retry_lost=retry_lost,
            connect_timeout=connect_timeout,
            **keywords,
        )

    def call_named(self, name: str, /, *args: Any, **keywords: Any) -> GroupListener:
        """Call a command on all hosts by its name; keywords as for :meth:`run`.

        Raises:
            AttributeError: If no worker has such a command.
            TypeError, ValueError: If the arguments do not fit.
        """
        began = self._portal.do(lambda: self._async.begin_call(name, args, keywords))
        return self._follow(GroupListener(began, self._portal), keywords)

    @like(AsyncGroupVerbs.sync)
    def sync(
        self,
        source: str | os.PathLike[str],
        destination: str | os.PathLike[str],
        *,
        pull: bool = False,
        delete: bool = False,
        exclude: str | Iterable[str] = (),
        ignore_files: str | Iterable[str] = (".gitignore", ".mlepoolignore"),
        dry_run: bool = False,
        checksum: bool = False,
        force: bool = False,
        **keywords: Any,
    ) -> GroupListener:
        """Make a folder on all hosts like one here.

        Ctrl-C while this waits stops all of it: the trees are as they were.
        """
        return self._carry(
            *(self._async.sync, source, destination),
            pull=pull,
            delete=delete,
            exclude=exclude,
            ignore_files=ignore_files,
            dry_run=dry_run,
            checksum=checksum,
            force=force,
            **keywords,
        )

    @like(AsyncGroupVerbs.put)
    def put(
        self,
        source: Path | Sequence[Path] | IO[bytes] | bytes,
        destination: Path,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> GroupListener:
        """Put files and folders on all hosts.

        Ctrl-C while this waits stops all of it.
        """
        places = source, destination
        return self._carry(self._async.put, *places, dry_run=dry_run, **keywords)

    @like(AsyncGroupVerbs.get)
    def get(
        self,
        source: Path | Sequence[Path],
        destination: Path | None = None,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> GroupListener:
        """Get files and folders from all hosts.

        Ctrl-C while this waits stops all of it.
        """
        places = source, destination
        return self._carry(self._async.get, *places, dry_run=dry_run, **keywords)

    @like(AsyncGroupVerbs.transfer)
    def transfer(self, src: Path, dest: Path, **keywords: Any) -> GroupListener:
        """Put one file or folder on all hosts.

        Ctrl-C while this waits stops all of it.
        """
        return self._carry(self._async.transfer, src, dest, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return GroupMethod(name, list(self._async), self.call_named)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *offered_by(list(self._async))})

    def _carry(
        self, verb: Callable[..., Any], *places: Any, **keywords: Any
    ) -> GroupListener:
        """Begin what is done with files; Ctrl-C stops it."""
        quiet = {**keywords, "complete": False, "echo_response": False}
        began = self._portal.call(verb(*places, **quiet))
        live = GroupListener(began, self._portal)
        try:
            return self._follow(live, keywords)
        except KeyboardInterrupt:
            live.stop()
            raise

    def _follow(self, live: GroupListener, keywords: dict[str, Any]) -> GroupListener:
        """Wait for what the caller waits for; print in the caller's thread."""
        if not keywords.get("complete", True):
            return live
        if keywords.get("echo_response"):
            for name, message in live:
                with live._on_interrupt():
                    print_from(name, message)
        live.wait()
        return live.check() if keywords.get("raise_error") else live


class Group(GroupVerbs):
    """Some connections of a pool, in its order: ``pool["gpu[1-8]"]``.

    As :class:`~mlepool.AsyncGroup`, but blocking.
    """

    def __init__(
        self,
        group: AsyncGroup,
        portal: Portal,
        *,
        face: Callable[[AsyncConnection], Connection],
    ) -> None:
        self._async = group
        self._portal = portal
        self._faces = {one: face(one) for one in group}

    def _face(self, connection: AsyncConnection) -> Connection:
        return self._faces[connection]

    def __repr__(self) -> str:
        return f"<Group {described(self._async)}>"

    def _repr_html_(self) -> str:
        return connections_page(self._async)
