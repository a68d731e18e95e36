"""The blocking methods that put files on a worker, and get them from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any

from mlepool.client.catalogue.signatures import like
from mlepool.client.connection import AsyncConnection
from mlepool.client.files.methods import Path
from mlepool.client.sync.listener import Listener

__all__ = ["FileMethods"]


class FileMethods:
    """As :class:`mlepool.client.files.methods.FileMethods`, but blocking.

    Ctrl-C while one of them waits stops it: what is there is as it was.
    """

    _async: AsyncConnection
    _listen: Callable[..., Listener]

    @like(AsyncConnection.put)
    def put(
        self,
        source: Path | Sequence[Path] | IO[bytes] | bytes,
        destination: Path,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> Listener:
        """Put files and folders on the worker.

        Ctrl-C while this waits stops it: what is there is as it was.
        """
        put = self._async.put
        return self._listen(put, source, destination, dry_run=dry_run, **keywords)

    @like(AsyncConnection.get)
    def get(
        self,
        source: Path | Sequence[Path],
        destination: Path | IO[bytes] | None = None,
        *,
        dry_run: bool = False,
        **keywords: Any,
    ) -> Listener:
        """Get files and folders from the worker.

        Ctrl-C while this waits stops it: what is there is as it was.
        """
        get = self._async.get
        return self._listen(get, source, destination, dry_run=dry_run, **keywords)

    @like(AsyncConnection.transfer)
    def transfer(self, src: Path, dest: Path, **keywords: Any) -> Listener:
        """Put one file or folder there.

        Ctrl-C while this waits stops it: what is there is as it was.
        """
        return self._listen(self._async.transfer, src, dest, **keywords)
