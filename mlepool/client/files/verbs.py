"""The verbs for files: they run on the client, and work with a worker's trees."""

from __future__ import annotations

import functools
import getpass
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from mlepool.client.calls import Calls
from mlepool.client.files.meters import Meter
from mlepool.client.files.remote_trees import RemoteSource, RemoteTarget
from mlepool.client.files.syncing import Sync, SyncOptions
from mlepool.client.links.trust import local_workers
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions
from mlepool.config import account_dir, default_state_dir
from mlepool.files.base import Source, SourceOptions, Target, TargetOptions
from mlepool.files.source import LocalSource
from mlepool.files.store import Store
from mlepool.files.target import LocalTarget

__all__ = [
    "SyncOptions",
    "begin_collecting",
    "begin_sync",
    "files_folder",
    "local_path",
    "local_source",
    "local_store",
    "local_target",
    "own_folders",
    "tree_options",
]

FILES_FOLDER = "files"  # in the account's folder: what a client keeps of its trees


def begin_sync(
    asker: Calls,
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    pull: bool,
    sync_options: SyncOptions,
    options: CallOptions,
    listener: AsyncListener | None = None,
) -> LocalJob:
    """Begin a sync; see :meth:`AsyncConnection.sync`."""
    reading, writing = tree_options(sync_options.exclude, sync_options.ignore_files)
    here, over_there = (destination, source) if pull else (source, destination)
    place = local_path(here)
    there = asker.place(os.fsencode(os.fspath(over_there)))

    meter = Meter()

    def ends() -> tuple[Source, Target]:
        waiting = meter.wait_for
        if pull:
            near = local_target(place, writing, waiting=waiting)
            return RemoteSource(asker, there, reading), near
        far = RemoteTarget(asker, there, writing, waiting=waiting)
        return local_source(place, reading), far

    async def work(job: LocalJob) -> Any:
        return await Sync(job, ends, sync_options, meter=meter).run()

    command = f"sync {os.fspath(source)} {os.fspath(destination)}"
    return LocalJob(asker.name, command, work, options=options, listener=listener)


def begin_collecting(
    asker: Calls,
    there: bytes,
    here: Path,
    *,
    include: tuple[str, ...],
    options: CallOptions,
) -> LocalJob:
    """Begin to bring back what patterns name of a folder on the worker."""
    reading, writing = tree_options((), ())
    reading = structs.replace(reading, include=include)
    meter = Meter()

    def ends() -> tuple[Source, Target]:
        near = local_target(here, writing, waiting=meter.wait_for)
        return RemoteSource(asker, there, reading), near

    async def work(job: LocalJob) -> Any:
        chosen = SyncOptions(force=True, digest=False)
        return await Sync(job, ends, chosen, meter=meter).run()

    command = f"collect {' '.join(include)}"
    return LocalJob(asker.name, command, work, options=options)


def tree_options(
    exclude: tuple[str, ...], ignore_files: tuple[str, ...]
) -> tuple[SourceOptions, TargetOptions]:
    """Give what both ends of a sync are told: what is left out is so on both."""
    owner = f"{_account()} on {socket.gethostname()} (pid {os.getpid()})"
    reading = SourceOptions(exclude, ignore_files)
    return reading, TargetOptions(exclude, ignore_files, owner)


def _account() -> str:
    """Name who syncs, for people; in a container an account may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"account {os.getuid()}"


def local_path(path: str | os.PathLike[str]) -> Path:
    """Give a path of this machine; ``~`` is our home.

    Raises:
        ValueError: If it is empty: that is not the current folder, but a variable
            that is not set.
    """
    given = os.path.expanduser(path)
    if not given:
        raise ValueError("an empty path is no folder; the current one is '.'")
    return Path(given).absolute()


def local_source(path: Path, options: SourceOptions) -> LocalSource:
    """Make the end that is read, on this machine."""
    own = own_folders()
    return LocalSource(os.fsencode(path), options, store=local_store(), own=own)


def local_target(
    path: Path,
    options: TargetOptions,
    *,
    waiting: Callable[[str], None] | None = None,
) -> LocalTarget:
    """Make the end that is written, on this machine."""
    folder = files_folder()
    store = local_store()
    own = own_folders()
    return LocalTarget(
        path, options, state=folder, store=store, own=own, waiting=waiting
    )


def own_folders() -> list[Path]:
    """Give the folders that hold keys and tokens: no tree has them in it."""
    states = [one.state_dir for one in local_workers()]
    return [account_dir(), default_state_dir(), *states]


def files_folder() -> Path:
    """Give the folder for what a client keeps of its trees."""
    return account_dir() / FILES_FOLDER


def local_store() -> Store:
    """Give what this account knows of its files' content."""
    return _open_store(files_folder(), os.getpid())


@functools.cache
def _open_store(folder: Path, pid: int) -> Store:
    """Open a store; again in a forked child, which can't use its parent's."""
    return Store(folder)
