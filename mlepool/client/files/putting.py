"""Putting and getting: files, folders, bytes and open files, to and from a worker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlepool.client.calls import Calls
from mlepool.client.files.exchange import Exchange, Far, Near, is_folder, path_error
from mlepool.client.files.verbs import FILES_FOLDER
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.sources import chunks
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions
from mlepool.config import account_dir
from mlepool.wire.values import SyncSummary

__all__ = ["begin_get", "begin_put"]

BLOCK = 1024 * 1024  # bytes that are copied at a time
CONTENT = b"content"  # a file's name while it is no other's


def begin_put(
    asker: Calls,
    source: Any,
    destination: Any,
    *,
    dry_run: bool,
    options: CallOptions,
    listener: AsyncListener | None = None,
    near: Near | None = None,
) -> LocalJob:
    """Begin to put; see :meth:`AsyncConnection.put`.

    Args:
        asker: The connection's calls.
        source: What to put.
        destination: Where to.
        dry_run: Only say what would be done.
        options: The client's options.
        listener: Its handle, if that was made before.
        near: This side, if several puts share what they read here.
    """
    here = near or Near()
    stream = _stream(source, "read")
    paths = [] if stream is not None else _paths(source)
    target = asker.place(_path(destination))

    async def work(job: LocalJob) -> SyncSummary:
        exchange = Exchange(job, here, Far(asker), dry_run=dry_run)
        is_into = _is_into(source, target) or await is_folder(Far(asker), target)
        if stream is None:
            async with here.opened():
                return await exchange.run(paths, target, is_into=is_into)
        if is_into:
            raise path_error(errno.EISDIR, target)
        with _scratch() as folder:
            path = os.path.join(folder, CONTENT)
            await _spool(stream, path)
            return await exchange.run([path], target, is_into=False)

    command = f"put {_shown(source)} {os.fsdecode(target)}"
    return LocalJob(asker.name, command, work, options=options, listener=listener)


def begin_get(
    asker: Calls,
    source: Any,
    destination: Any,
    *,
    dry_run: bool,
    options: CallOptions,
    listener: AsyncListener | None = None,
) -> LocalJob:
    """Begin to get; see :meth:`AsyncConnection.get`."""
    paths = [asker.place(one) for one in _paths(source)]
    stream = _stream(destination, "write")
    is_path = destination is not None and stream is None
    target = os.path.expanduser(_path(destination)) if is_path else b""

    async def work(job: LocalJob) -> Any:
        exchange = Exchange(job, Far(asker), Near(), dry_run=dry_run)
        if is_path:
            is_into = _is_into(source, target) or await is_folder(Near(), target)
            return await exchange.run(paths, target, is_into=is_into)
        with _scratch() as folder:
            # Under its own name, which problems and messages tell.
            own = os.path.basename(paths[0].rstrip(b"/"))
            path = os.path.join(folder, own or CONTENT)
            summary = await exchange.run_for_file(paths, path)
            if dry_run or stream is not None:
                await asyncio.to_thread(_pour, path, stream)
                return summary
            return await asyncio.to_thread(Path(os.fsdecode(path)).read_bytes)

    command = f"get {_shown(source)}"
    if is_path:
        command += f" {os.fsdecode(target)}"
    return LocalJob(asker.name, command, work, options=options, listener=listener)


def _paths(source: Any) -> list[bytes]:
    if isinstance(source, str | os.PathLike):
        return [_path(source)]
    if isinstance(source, list | tuple) and source:
        return [_path(one) for one in source]
    raise TypeError(f"a source is a path or a list of paths, not {_shown(source)}")


def _path(given: Any) -> bytes:
    """Check a path.

    Raises:
        TypeError: If it is none.
        ValueError: If it can't be one.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"a path is str or os.PathLike, not {type(given).__name__}")
    path = os.fsencode(given)
    if not path or b"\0" in path:
        raise ValueError(f"not a path: {os.fsdecode(path)!r}")
    return path


def _is_into(source: Any, target: bytes) -> bool:
    """Tell if the target is a folder whatever is there."""
    return isinstance(source, list | tuple) or target.endswith(b"/")


def _stream(given: Any, verb: str) -> Any:
    """Give what is bytes or an open file; None for all else.

    Raises:
        TypeError: If the file is open as text.
    """
    if isinstance(given, bytes | bytearray | memoryview) and verb == "read":
        return given
    if isinstance(given, str | os.PathLike) or not hasattr(given, verb):
        return None
    if isinstance(given, io.TextIOBase):
        raise TypeError("a file must be open in binary mode")
    return given


def _shown(source: Any) -> str:
    """Say what is put, or got, for people."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, list | tuple):
        return " ".join(map(_shown, source))
    return f"<{type(source).__name__}>"


@contextlib.contextmanager
def _scratch() -> Iterator[bytes]:
    """Give a folder for a moment, where a sync can rename into it."""
    above = account_dir() / FILES_FOLDER
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=above) as folder:
        yield os.fsencode(folder)


async def _spool(stream: Any, path: bytes) -> None:
    file = await asyncio.to_thread(open, path, "wb")
    with file:
        async for data in chunks(stream, "utf-8"):
            await asyncio.to_thread(file.write, data)


def _pour(path: bytes, stream: Any) -> None:
    """Copy a file into an open one, if it is there: a dry run has got none."""
    if os.path.exists(path):
        with open(path, "rb") as file:
            shutil.copyfileobj(file, stream, BLOCK)
