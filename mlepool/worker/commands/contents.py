"""Reading and writing files, as text or bytes."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import secrets
import stat
from typing import Any

from mlepool.files.copying import read_at, write_at
from mlepool.files.descent import make_real
from mlepool.wire.answers import MAX_CONTENT, Content, FileInfo
from mlepool.worker.entries import info_of
from mlepool.worker.jail import FilePath, Jail, Place, named
from mlepool.worker.registry import Context, command

__all__ = ["rdfile", "read", "wrfile", "write"]

FileData = Any  # str or bytes, as of a path
MAX_TAIL = 100_000  # lines
UNKNOWN = 1 << 62  # bytes: no file is that large
ACCESS = 0o777  # who writes to a file takes from it what makes it run as its owner
BLOCK = 64 * 1024  # bytes read at once, when lines are counted from the end


@command(role="sync", blocks=True, repeatable=True)
def read(
    ctx: Context,
    path: FilePath,
    *,
    encoding: str | None = "utf-8",
    errors: str = "strict",
    offset: int = 0,
    size: int | None = None,
    tail: int | None = None,
) -> Content:
    """Read a file, or a part of it.

    However large it is, the worker holds only a little of it at a time; all of it
    comes to this side's memory, up to 256 MiB. ``get`` takes larger ones to a file.

    Args:
        path: The file.
        encoding: How its bytes become text; None gives bytes.
        errors: What to do with bytes that are no text, as in ``bytes.decode()``.
        offset: Where to begin, in bytes.
        size: How many bytes to read at most; by default all.
        tail: Only the last so many lines, of what lies after ``offset``.

    Returns:
        The content, as text or bytes.

    Raises:
        FileNotFoundError: If it is not there.
        IsADirectoryError: If it is a folder.
        ValueError: If it is no such text, or too large; or for a part that can't be.
        PermissionError: If the account may not read it, or this client.
    """
    if encoding is not None:
        codecs.lookup(encoding)
    codecs.lookup_error(errors)
    if offset < 0 or (size is not None and size < 0):
        raise ValueError("read(): offset and size are numbers of bytes")
    if tail is not None and not 0 <= tail <= MAX_TAIL:
        raise ValueError(f"read(): tail is a number of lines, up to {MAX_TAIL}")
    return _read(ctx.jail, path, offset=offset, size=size, tail=tail)


@command(role="sync", blocks=True, repeatable=True)
def rdfile(ctx: Context, path: FilePath) -> Content:
    """Read a file as bytes; ``read(path, encoding=None)`` by Conplyent's name.

    Args:
        path: The file.

    Returns:
        Its content, as bytes.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, PermissionError: As of
            ``read``.
    """
    return _read(ctx.jail, path, offset=0, size=None, tail=None)


@command(role="sync", blocks=True, once=True)
def write(
    ctx: Context,
    path: FilePath,
    data: FileData,
    *,
    encoding: str = "utf-8",
    append: bool = False,
    offset: int | None = None,
    parents: bool = False,
) -> FileInfo:
    """Write a file: all of it, or a part.

    All of it: the file is replaced as a whole, and is never half of itself; its mode
    stays. Larger content than 768 KiB goes by ``put``.

    Args:
        path: The file; made if it is not there.
        data: str or bytes.
        encoding: How text becomes bytes.
        append: Write after what is there.
        offset: Write from there on, in bytes, and leave the rest as it is.
        parents: Make the folders on the way to it.

    Returns:
        The file, as ``stat`` does.

    Raises:
        FileNotFoundError: If the folder that it is to be in is not there.
        IsADirectoryError: If it is a folder.
        ValueError: If the text can't be encoded so, or for ``append`` with ``offset``.
        PermissionError: If the account may not write it, or this client.
    """
    if append and offset is not None:
        raise ValueError("write(): append has its own offset")
    if offset is not None and offset < 0:
        raise ValueError("write(): offset is a number of bytes")
    content = _bytes_of(data, encoding)
    jail = ctx.jail
    if parents:
        folder = os.path.dirname(jail.resolve(path))
        with named(folder):
            os.close(make_real(folder))
    with jail.at(path) as place:
        if append or offset is not None:
            _write_within(place, content, offset=offset)
        else:
            _write_whole(place, content)
        return info_of(place)


@command(role="sync", blocks=True, once=True)
def wrfile(
    ctx: Context, path: FilePath, data: FileData, append: bool = False
) -> FileInfo:
    """Write a file; ``write`` by Conplyent's name.

    Args:
        path: The file; made if it is not there.
        data: bytes, or str for UTF-8.
        append: Write after what is there.

    Returns:
        The file, as ``stat`` does.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, PermissionError: As of
            ``write``.
    """
    return write(ctx, path, data, append=append)


def _read(
    jail: Jail, path: Any, *, offset: int, size: int | None, tail: int | None
) -> Content:
    with jail.at(path) as place:
        fd = place.open(os.O_RDONLY)
        try:
            seen = os.fstat(fd)
            _check_file(seen)
            end = max(offset, seen.st_size)
            if tail is not None:
                offset = _begin_of_lines(fd, tail, begin=offset, end=end)
            # Some files say that they are empty, and are not: those of /proc.
            last = end if seen.st_size else UNKNOWN
            end = last if size is None else min(last, offset + size)
            data = read_at(fd, offset, min(MAX_CONTENT, end - offset))
        finally:
            os.close(fd)
    if not seen.st_size and len(data) < MAX_CONTENT:
        end = offset + len(data)
    return Content(place.path, data, offset, end, (seen.st_dev, seen.st_ino))


def _check_file(seen: os.stat_result) -> None:
    if stat.S_ISDIR(seen.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder")
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "not a file")


def _begin_of_lines(fd: int, count: int, *, begin: int, end: int) -> int:
    """Find where the last lines begin."""
    at, found = end, 0
    while at > begin and count:
        start = max(begin, at - BLOCK)
        block = read_at(fd, start, at - start)
        # A newline that ends the file begins no line.
        place = len(block) - 1 if at == end and block.endswith(b"\n") else len(block)
        while (place := block.rfind(b"\n", 0, place)) >= 0:
            found += 1
            if found == count:
                return start + place + 1
        at = start
    return begin if count else end


def _bytes_of(data: Any, encoding: str) -> bytes:
    if isinstance(data, str):
        return data.encode(encoding)
    if isinstance(data, bytes):
        return data
    raise TypeError(f"write(): data must be str or bytes, not {type(data).__name__}")


def _write_within(place: Place, data: bytes, *, offset: int | None) -> None:
    """Write into a file that stays where it is: at an offset, or after its end."""
    mode = os.O_APPEND if offset is None else 0
    with open(place.open(os.O_WRONLY | os.O_CREAT | mode), "wb", buffering=0) as file:
        _check_file(os.fstat(file.fileno()))
        if offset is not None:
            write_at(file.fileno(), data, offset)
            return
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def _write_whole(place: Place, data: bytes) -> None:
    """Write a file beside the old one, and have it take its place."""
    try:
        old = place.stat()
        _check_file(old)
    except FileNotFoundError:
        old = None
    new = place._replace(name=b".mlepool-" + secrets.token_hex(8).encode())
    try:
        _make(new, data, old)
    except PermissionError:
        if old is None:
            raise
        _overwrite(place, data)  # the file is ours, but not the folder
        return
    try:
        os.rename(new.name, place.name, src_dir_fd=new.fd, dst_dir_fd=place.fd)
    except BaseException:
        os.unlink(new.name, dir_fd=new.fd)
        raise


def _make(new: Place, data: bytes, old: os.stat_result | None) -> None:
    """Make a file that is like an old one, but for its content."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = new.open(flags, 0o666 if old is None else 0o600)
    try:
        write_at(fd, data, 0)
        if old is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, old.st_mode & ACCESS)
    except BaseException:
        os.unlink(new.name, dir_fd=new.fd)
        raise
    finally:
        os.close(fd)


def _overwrite(place: Place, data: bytes) -> None:
    fd = place.open(os.O_WRONLY | os.O_TRUNC)
    try:
        write_at(fd, data, 0)
    finally:
        os.close(fd)
