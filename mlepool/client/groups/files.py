"""Verbs of a group for files: what is here is read once for all hosts."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, NamedTuple

from mlepool.client.calls import Calls
from mlepool.client.catalogue.signatures import readable
from mlepool.client.files.methods import Path, texts_in
from mlepool.client.files.places import place_for
from mlepool.client.groups.listener import AsyncGroupListener
from mlepool.client.groups.methods import part_keywords
from mlepool.client.groups.orders import FileOrder, Order
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions, Kind, split_options

__all__ = ["GroupFiles"]

# Files take libraries that a program which only runs commands need not load.
_PUTTING = "mlepool.client.files.putting"
_SHARING = "mlepool.client.files.sharing"
_VERBS = "mlepool.client.files.verbs"


class GroupFiles:
    """What a group can do with files."""

    def _start(self, order: Order, own: dict[str, Any]) -> AsyncGroupListener:
        raise NotImplementedError

    async def follow_call(self, live: AsyncGroupListener) -> AsyncGroupListener:
        """Wait for what the caller of a call that was begun waits for."""
        raise NotImplementedError

    @readable
    async def sync(
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
    ) -> AsyncGroupListener:
        """Make a folder on all hosts like one here, which is read only once.

        As :meth:`AsyncConnection.sync`, on each host, side by side: none waits for
        another, and one that fails stops no other.

        Args:
            source: The folder to read, here.
            destination: The folder to write, on each worker.
            pull: The other way, from each host into a folder of its own: ``{host}`` in
                the destination is its name; without that it is a folder in it.
            delete: What is not in the source goes to the trash; ignored files stay.
            exclude: Patterns of what to leave out, as lines of a ``.gitignore``.
            ignore_files: Names of files in the tree that hold such patterns.
            dry_run: Only say what would be done.
            checksum: Compare content, also where size and time are the same.
            force: Also if the source is empty, or most of the target would be deleted.
            keywords: ``complete``, ``timeout``, ``echo_response``, ``max_interval``,
                ``raise_error``, and those of a group's :meth:`run`.

        Raises:
            TypeError: For a keyword that there is not.
            ValueError: If something can't be.
            ExceptionGroup: With ``raise_error``, of what has failed.
        """
        asked = _options("sync", keywords)
        shared = importlib.import_module(_VERBS if pull else _SHARING)
        chosen = shared.SyncOptions(
            delete=delete,
            checksum=checksum,
            dry_run=dry_run,
            force=force,
            exclude=texts_in("exclude", exclude),
            ignore_files=texts_in("ignore_files", ignore_files),
        )
        given: dict[str, Any] = {"sync_options": chosen, "options": asked.options}
        if pull:
            begin = _each(shared.begin_sync, source, destination, pull=True, **given)
        else:
            begin = shared.share_sync(source, destination, **given)
        text = f"sync {os.fspath(source)} {os.fspath(destination)}"
        return await self._carry(text, begin, asked)

    @readable
    async def put(
        self,
        source: Path | Sequence[Path] | IO[bytes] | bytes,
        destination: Path,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> AsyncGroupListener:
        """Put files and folders on all hosts; as :meth:`AsyncConnection.put`.

        Args:
            source: A path, several, an open binary file (it is read into memory, once),
                or bytes.
            destination: Where to, on each worker.
            dry_run: Only say what would be done.
            keywords: As for :meth:`sync`.

        Raises:
            TypeError, ValueError, ExceptionGroup: As :meth:`sync`.
        """
        asked = _options("put", keywords)
        if hasattr(source, "read"):
            source = await asyncio.to_thread(source.read)
            if not isinstance(source, bytes):
                raise TypeError("a file must be open in binary mode")
        return await self._put("put", (source, destination), asked, dry_run=dry_run)

    @readable
    async def get(
        self,
        source: Path | Sequence[Path],
        destination: Path | None = None,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> AsyncGroupListener:
        """Get files and folders from all hosts; as :meth:`AsyncConnection.get`.

        Args:
            source: A path on the workers, or several.
            destination: A folder here, in which each host gets one of its name; or a
                path with ``{host}`` for its name. None for the content of a file as
                bytes: each listener's ``value``.
            dry_run: Only say what would be done.
            keywords: As for :meth:`sync`.

        Raises:
            TypeError, ValueError, ExceptionGroup: As :meth:`sync`.
        """
        asked = _options("get", keywords)
        putting = importlib.import_module(_PUTTING)
        given = {"dry_run": dry_run, "options": asked.options}
        if destination is None:
            begin = _one_by_one(putting.begin_get, source, None, **given)
        else:
            begin = _each(putting.begin_get, source, destination, **given)
        return await self._carry(f"get {_shown(source)}", begin, asked)

    @readable
    async def transfer(
        self, src: Path, dest: Path, **keywords: Any
    ) -> AsyncGroupListener:
        """Put one file or folder on all hosts, as Conplyent's ``transfer`` does.

        Args:
            src: Its path here.
            dest: Its path there; folders on the way are made.
            keywords: As for :meth:`sync`.

        Raises:
            TypeError, ValueError, ExceptionGroup: As :meth:`sync`.
        """
        asked = _options("transfer", keywords)
        if not isinstance(src, str | os.PathLike):
            raise TypeError(f"src is a path, not {type(src).__name__}")
        return await self._put("transfer", (src, dest), asked, dry_run=False)

    async def _put(
        self, verb: str, places: tuple[Any, Any], asked: _Asked, **given: Any
    ) -> AsyncGroupListener:
        putting = importlib.import_module(_PUTTING)
        near = importlib.import_module(_SHARING).SharedNear()
        given |= {"options": asked.options, "near": near}
        begin = _one_by_one(putting.begin_put, *places, **given)
        return await self._carry(f"{verb} {_shown(places[0])}", begin, asked)

    async def _carry(
        self, text: str, begin: Callable[..., LocalJob], asked: _Asked
    ) -> AsyncGroupListener:
        order = FileOrder(text, asked.options, begin)
        return await self.follow_call(self._start(order, asked.group))


class _Asked(NamedTuple):
    """The keywords of a call: the group's, and the client's options."""

    group: dict[str, Any]
    options: CallOptions


def _options(verb: str, keywords: dict[str, Any]) -> _Asked:
    """Part keywords into the group's and those of a call.

    Raises:
        TypeError: For one that there is not.
    """
    own, rest = part_keywords(keywords)
    options, unknown = split_options(rest, kind=Kind.VALUE)
    if unknown:
        raise TypeError(f"a group's {verb}() has no keyword {next(iter(unknown))!r}")
    return _Asked(own, options)


def _one_by_one(
    begin: Callable[..., LocalJob], source: Any, destination: Any, **given: Any
) -> Callable[[Calls, AsyncListener], LocalJob]:
    def on_one(calls: Calls, listener: AsyncListener) -> LocalJob:
        return begin(calls, source, destination, listener=listener, **given)

    return on_one


def _each(
    begin: Callable[..., LocalJob], source: Any, destination: Any, **given: Any
) -> Callable[[Calls, AsyncListener], LocalJob]:
    """Begin with a destination here for each host."""

    def on_one(calls: Calls, listener: AsyncListener) -> LocalJob:
        place = place_for(calls.name, destination)
        return begin(calls, source, place, listener=listener, **given)

    return on_one


def _shown(source: Any) -> str:
    if isinstance(source, list | tuple):
        return " ".join(map(_shown, source))
    is_path = isinstance(source, str | os.PathLike)
    return os.fsdecode(source) if is_path else f"<{type(source).__name__}>"
