"""Methods of a connection that put files on its worker, and get them from it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import IO, Any

from mlepool.client.calls import Calls
from mlepool.client.catalogue.signatures import readable
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import Kind, split_options

__all__ = ["FileMethods", "texts_in"]

# Files take libraries that a program which only runs commands need not load.
_PUTTING = "mlepool.client.files.putting"
_FILE_VERBS = "mlepool.client.files.verbs"
_WATCHING = "mlepool.client.files.watching"

Path = str | os.PathLike[str]


class FileMethods:
    """What a connection can do with files.

    Attributes:
        raise_error: Default of the keyword for all calls.
    """

    raise_error: bool
    _calls: Calls

    async def _open(self) -> None:
        raise NotImplementedError

    @readable
    async def put(
        self,
        source: Path | Sequence[Path] | IO[bytes] | bytes,
        destination: Path,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> AsyncListener:
        """Put files and folders on the worker.

        A destination that is a folder, or ends with ``/``, takes the source's name, as
        with ``cp``; folders on the way are made. A file is replaced as a whole once all
        of it is there; its mode and mtime are kept. A folder comes with all that is in
        it; what else is in the destination stays. A source that is a symbolic link
        stands for what it points to.

        Messages, ``progress`` and ``value`` are those of :meth:`sync`.

        Args:
            source: A path, several (the destination is a folder then), an open binary
                file, or bytes. ``~`` is our home.
            destination: Where to; relative to the worker's folder, ``~`` is its
                account's home.
            dry_run: Only say what would be done.
            keywords: ``complete``, ``timeout`` (it is stopped then), ``echo_response``,
                ``max_interval``, ``raise_error``, as for each command.

        Raises:
            TypeError: For what is no source, and a keyword that there is not.
            ValueError: If a path can't be one; with ``raise_error``: if two sources
                have one name.
            FileNotFoundError, PermissionError, IsADirectoryError, OSError: With
                ``raise_error``: what failed, here or there, with its ``filename``.
            SyncIncompleteError: With ``raise_error``: some files could not be put; the
                others were.
            ConnectionClosedError: If there is no link, and none will come.
        """
        return await self._carry(
            "put", (source, destination), keywords, dry_run=dry_run
        )

    @readable
    async def get(
        self,
        source: Path | Sequence[Path],
        destination: Path | IO[bytes] | None = None,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> AsyncListener:
        """Get files and folders from the worker.

        As :meth:`put`, the other way round.

        Args:
            source: A path on the worker, or several.
            destination: A path here, or an open binary file, which gets a file's
                content when all of it is there. None for the content as bytes: the
                listener's ``value``.
            dry_run: Only say what would be done.
            keywords: As for :meth:`put`.

        Raises:
            TypeError, ValueError, OSError, SyncIncompleteError, ConnectionClosedError:
                As for :meth:`put`.
        """
        return await self._carry(
            "get", (source, destination), keywords, dry_run=dry_run
        )

    @readable
    async def transfer(self, src: Path, dest: Path, **keywords: Any) -> AsyncListener:
        """Put one file or folder on the worker, as Conplyent's ``transfer`` does.

        Args:
            src: Its path here.
            dest: Its path there; folders on the way are made.
            keywords: As for :meth:`put`.

        Raises:
            TypeError, ValueError, OSError, SyncIncompleteError, ConnectionClosedError:
                As for :meth:`put`.
        """
        if not isinstance(src, str | os.PathLike):
            raise TypeError(f"src is a path, not {type(src).__name__}")
        return await self._carry("transfer", (src, dest), keywords)

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
        watch: bool = False,
        **keywords: Any,
    ) -> AsyncListener:
        """Make a folder on the worker like one here, sending only what is missing.

        What is in ``source`` comes into ``destination``, with or without a slash at
        the end. Messages are lines: ``+ path`` (new), ``~ path`` (changed), ``- path``
        (deleted), a path that can't be printed in quotes. The listener's ``progress``
        is a :class:`~mlepool.SyncProgress`, its ``value`` a
        :class:`~mlepool.SyncSummary`.

        Nothing in the destination changes before all content has arrived; then every
        file is put in its place by renaming. Stopped or failed before that, the tree
        is as it was. What is lost on the way is sent again over the next link; after
        a restart of the worker it begins anew with what had arrived.

        With ``watch`` it goes on until it is stopped (and STOPPED then, its ``value``
        the total of all): changes here follow within half a second, also those that
        came while there was no link. What goes wrong after the first sync, as a halt
        or a file that can't be read, is a message (``! text``), and tried again with
        the next change. The latest 16 MiB of messages are held.

        Args:
            source: The folder to read. Here, ``~`` is our home; on the worker its
                account's home, and a relative path counts from the worker's folder.
            destination: The folder to write; made if it is not there.
            pull: The other way: ``source`` is on the worker, ``destination`` is here.
            delete: What is not in the source goes to the trash; ignored files stay.
            exclude: Patterns of what to leave out, as lines of a ``.gitignore``.
            ignore_files: Names of files in the tree that hold such patterns.
            dry_run: Only say what would be done.
            checksum: Compare content, also where size and time are the same.
            force: Also if the source is empty, or most of the target would be deleted.
            watch: Go on: what changes in ``source`` follows. Not with ``pull`` or
                ``dry_run``. ``complete`` is False by default then.
            keywords: ``complete``, ``timeout`` (it is stopped then), ``echo_response``,
                ``max_interval``, ``raise_error``, as for each command.

        Raises:
            SyncHaltedError: With ``raise_error``: it looks like a mistake, and nothing
                was changed; ``force=True`` does it.
            SyncIncompleteError: With ``raise_error``: some files could not be synced;
                all else was. ``value.problems`` says which and why.
            OSError: With ``raise_error``: there is no such folder, or no room.
            ConnectionClosedError: If there is no link, and none will come.
            TypeError: For a keyword that there is not.
            ValueError: For ``watch`` with ``pull`` or ``dry_run``, and for a path that
                is empty.
        """
        keywords = {
            "raise_error": self.raise_error,
            "complete": not watch,
            **keywords,
        }
        options, rest = split_options(keywords, kind=Kind.VALUE)
        if rest:
            raise TypeError(f"sync() has no keyword {next(iter(rest))!r}")
        await self._open()
        self._calls.check_usable()
        verbs = importlib.import_module(_FILE_VERBS)
        chosen = verbs.SyncOptions(
            delete=delete,
            checksum=checksum,
            dry_run=dry_run,
            force=force,
            exclude=texts_in("exclude", exclude),
            ignore_files=texts_in("ignore_files", ignore_files),
        )
        begin = verbs.begin_sync
        if watch:
            begin = importlib.import_module(_WATCHING).begin_watch
        job = begin(
            self._calls,
            source,
            destination,
            pull=pull,
            sync_options=chosen,
            options=options,
        )
        return await self._calls.work(job)

    async def _carry(
        self,
        verb: str,
        places: tuple[Any, Any],
        keywords: dict[str, Any],
        *,
        dry_run: bool = False,
    ) -> AsyncListener:
        options, rest = split_options(
            {"raise_error": self.raise_error, **keywords}, kind=Kind.VALUE
        )
        if rest:
            raise TypeError(f"{verb}() has no keyword {next(iter(rest))!r}")
        await self._open()
        self._calls.check_usable()
        putting = importlib.import_module(_PUTTING)
        begin = putting.begin_get if verb == "get" else putting.begin_put
        job = begin(self._calls, *places, dry_run=dry_run, options=options)
        return await self._calls.work(job)


def texts_in(name: str, given: str | Iterable[str]) -> tuple[str, ...]:
    """Read an argument that is a text or several.

    Raises:
        TypeError: If one is none.
    """
    texts = (given,) if isinstance(given, str) else tuple(given)
    for one in texts:
        if not isinstance(one, str):
            raise TypeError(f"{name} must be str, not {type(one).__name__}")
    return texts
