"""Methods of a connection that put files on its worker, and get them from it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import IO, Any

from mlepool.client.calls import Calls
from mlepool.client.listener import AsyncListener
from mlepool.client.options import Kind, split_options
from mlepool.client.signatures import readable

__all__ = ["FileMethods"]

# Files take libraries that a program which only runs commands need not load.
_PUTTING = "mlepool.client.putting"

Path = str | os.PathLike[str]


class FileMethods:
    """What a connection can do with files, but for ``sync``.

    Attributes:
        raise_error: Default of the keyword for all calls.
    """

    raise_error: bool
    _calls: Calls

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
        self._calls.check_usable()
        putting = importlib.import_module(_PUTTING)
        begin = putting.begin_get if verb == "get" else putting.begin_put
        job = begin(self._calls, *places, dry_run=dry_run, options=options)
        return await self._calls.work(job)
