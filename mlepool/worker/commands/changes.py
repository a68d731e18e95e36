"""Making, removing, copying and moving files and folders."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from typing import Any

from mlepool.files.descent import FOLDER_FLAGS, Root, is_inside, make_real, open_nearest
from mlepool.files.moving import copy_one, move as move_between, place as put_in_place
from mlepool.wire.answers import FileInfo
from mlepool.worker.entries import info_of, list_names
from mlepool.worker.jail import FilePath, Jail, Place, as_path, named, shown
from mlepool.worker.registry import Context, command

__all__ = ["copy", "mkdir", "mkdirs", "move", "rm", "touch"]

MAX_MODE = 0o7777


@command(role="sync", blocks=True, once=True)
def mkdir(ctx: Context, path: FilePath, mode: int | None = None) -> FileInfo:
    """Make a folder; the one that it is in must be there.

    Args:
        path: The folder.
        mode: Its permission bits, e.g. ``0o700``; by default those of the worker's
            umask.

    Returns:
        The folder, as ``stat`` does.

    Raises:
        FileExistsError: If there is something of this name.
        FileNotFoundError: If the folder that it is to be in is not there.
        ValueError: If there is no such mode.
        PermissionError: If the account may not, or this client.
    """
    if mode is not None and not 0 <= mode <= MAX_MODE:
        raise ValueError(f"mkdir(): mode is permission bits, not {mode}")
    with ctx.jail.at(path, follow=False) as place:
        os.mkdir(place.name, 0o777 if mode is None else mode, dir_fd=place.fd)
        if mode is not None:
            Root(place.fd).set_mode(place.name, mode)
        return info_of(place)


@command(role="sync", blocks=True, once=True)
def mkdirs(ctx: Context, path: FilePath, exist_ok: bool = False) -> FileInfo:
    """Make a folder, and the folders on the way to it.

    Args:
        path: The folder.
        exist_ok: Fine if it is there already.

    Returns:
        The folder, as ``stat`` does.

    Raises:
        FileExistsError: If it is there, or something else of this name is.
        NotADirectoryError: If something on the way is no folder.
        PermissionError: If the account may not, or this client.
    """
    real = ctx.jail.resolve(path)
    with named(real):
        _make_folders(real, exist_ok=exist_ok)
    with ctx.jail.placed(real) as place:
        return info_of(place)


@command(role="sync", blocks=True, once=True)
def rm(ctx: Context, path: FilePath, recursive: bool = False) -> str:
    """Remove a file, a link or an empty folder.

    Args:
        path: What; of a link, it and not what it leads to.
        recursive: Remove a folder with all that is in it. There is no trash.

    Returns:
        The whole path of what is no more.

    Raises:
        FileNotFoundError: If it is not there.
        OSError: If a folder is not empty (``ENOTEMPTY``).
        PermissionError: If the account may not, or this client.
    """
    with ctx.jail.at(path, follow=False, goes=True) as place:
        if not stat.S_ISDIR(place.stat().st_mode):
            os.unlink(place.name, dir_fd=place.fd)
        elif recursive:
            shutil.rmtree(place.name, dir_fd=place.fd)
        else:
            _remove_empty(place)
        return place.path


@command(role="sync", blocks=True, once=True)
def touch(ctx: Context, path: FilePath) -> FileInfo:
    """Make an empty file, or set the time of what is there to now.

    Args:
        path: The file.

    Returns:
        It, as ``stat`` does.

    Raises:
        FileNotFoundError: If the folder that it is to be in is not there.
        PermissionError: If the account may not, or this client.
    """
    with ctx.jail.at(path) as place:
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            os.close(place.open(flags))
        os.utime(place.name, dir_fd=place.fd, follow_symlinks=False)
        return info_of(place)


@command(role="sync", blocks=True, once=True)
def copy(
    ctx: Context, src: FilePath, dest: FilePath, recursive: bool = False
) -> FileInfo:
    """Copy a file on the worker's host, with its mode and time.

    A file that is there is replaced as a whole, once the copy is complete.

    Args:
        src: What; of a link, what it leads to.
        dest: Where to. A folder that is there, or a path that ends with ``/``, takes
            the source's name.
        recursive: Copy a folder with all that is in it: links stay links. The target
            must not be there.

    Returns:
        The copy, as ``stat`` does.

    Raises:
        FileNotFoundError: If the source is not there, or the target's folder.
        IsADirectoryError: If the source is a folder, without ``recursive``.
        FileExistsError: If a folder is to be copied onto what is there already.
        ValueError: If a folder is to be copied into itself.
        PermissionError: If the account may not, or this client.
    """
    jail = ctx.jail
    with jail.at(src) as source:
        _check_source(jail, source, recursive=recursive)
        with jail.placed(_target(jail, dest, source)) as target:
            _copy_to(source, target)
            return info_of(target)


@command(role="sync", blocks=True, once=True)
def move(ctx: Context, src: FilePath, dest: FilePath) -> FileInfo:
    """Move or rename a file or folder on the worker's host.

    A file that is there is replaced. Between file systems it is copied, then removed.

    Args:
        src: What; of a link, the link itself.
        dest: Where to. A folder that is there, or a path that ends with ``/``, takes
            the source's name.

    Returns:
        It, as ``stat`` does, where it is now.

    Raises:
        FileNotFoundError: If the source is not there, or the target's folder.
        OSError: If a folder is to be moved onto one that is not empty, or into itself.
        PermissionError: If the account may not, or this client.
    """
    jail = ctx.jail
    with jail.at(src, follow=False, goes=True) as source:
        is_folder = stat.S_ISDIR(source.stat().st_mode)
        with jail.placed(_target(jail, dest, source, follow=False)) as target:
            tree = Root(target.fd)
            if is_folder:
                move_between(Root(source.fd), source.name, to=tree, new=target.name)
            else:
                put_in_place(tree, target.name, source=source.fd, name=source.name)
            return info_of(target)


def _make_folders(real: bytes, *, exist_ok: bool) -> None:
    try:
        fd, missing = open_nearest(real)
    except NotADirectoryError:
        if os.path.lexists(real):
            raise FileExistsError(errno.EEXIST, "not a folder") from None
        raise
    os.close(fd)
    if not missing and not exist_ok:
        raise FileExistsError(errno.EEXIST, "it is there already")
    os.close(make_real(real))


def _remove_empty(place: Place) -> None:
    try:
        os.rmdir(place.name, dir_fd=place.fd)
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise
        text = "the folder is not empty; recursive=True removes all that is in it"
        raise OSError(errno.ENOTEMPTY, text) from None


def _target(jail: Jail, dest: Any, source: Place, *, follow: bool = True) -> bytes:
    """Give the path that something is to have.

    Args:
        jail: Where it may be.
        dest: As the client has it.
        source: What it is.
        follow: False to replace a link that is there, and not what it leads to.
    """
    real = jail.resolve(dest)
    if as_path(dest).endswith(b"/") or os.path.isdir(real):
        # The name alone: a link of this name in there is replaced, not followed.
        real = jail.resolve(os.path.join(real, source.name), follow=False)
    elif not follow:
        real = jail.resolve(dest, follow=False)
    if is_inside(real, source.real) and real != source.real:
        raise ValueError(f"{source.path} can't go into itself: {shown(real)}")
    if real == source.real:
        raise ValueError(f"{source.path} is both the source and the target")
    return real


def _check_source(jail: Jail, source: Place, *, recursive: bool) -> None:
    """See that something can be copied, before anything is made."""
    mode = source.stat().st_mode
    if stat.S_ISDIR(mode):
        if not recursive:
            raise IsADirectoryError(errno.EISDIR, "a folder; recursive=True copies it")
        jail.check_whole(source.real)
    elif stat.S_ISREG(mode):
        os.close(source.open(os.O_RDONLY))
    else:
        raise OSError(errno.EINVAL, "neither a file nor a folder")


def _copy_to(source: Place, target: Place) -> None:
    """Copy beside the target, which changes when all is there."""
    new = target._replace(name=b".mlepool-" + secrets.token_hex(8).encode())
    try:
        if stat.S_ISDIR(source.stat().st_mode):
            _copy_folder(source, new)
        else:
            copy_one((source.fd, source.name), (new.fd, new.name))
        _take_place(new, target)
    except BaseException:
        _discard(new)
        raise


def _copy_folder(source: Place, new: Place) -> None:
    """Copy a folder: files first, then what the folders are like."""
    os.mkdir(new.name, stat.S_IRWXU, dir_fd=new.fd)
    with _opened(source) as here, _opened(new) as there:
        folders, waiting = [b""], [b""]
        while waiting:
            path = waiting.pop()
            for name, is_folder in list_names(here.folder(path)):
                below = os.path.join(path, name)
                if is_folder:
                    there.make_folder(below)
                    waiting.append(below)
                    folders.append(below)
                else:
                    copy_one(here.parent(below), there.parent(below))
        for path in reversed(folders):
            there.set_mode(path, here.stat(path).st_mode)
            if path:
                there.set_mtime(path, here.stat(path).st_mtime_ns)


def _opened(place: Place) -> contextlib.closing[Root]:
    fd = os.open(place.name, FOLDER_FLAGS, dir_fd=place.fd)
    return contextlib.closing(Root(fd))


def _take_place(new: Place, target: Place) -> None:
    if stat.S_ISDIR(new.stat().st_mode) and os.path.lexists(target.real):
        raise FileExistsError(errno.EEXIST, "it is there already")
    os.rename(new.name, target.name, src_dir_fd=new.fd, dst_dir_fd=target.fd)


def _discard(new: Place) -> None:
    """Remove what has come of a copy that failed."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(new.stat().st_mode):
            shutil.rmtree(new.name, dir_fd=new.fd)
        else:
            os.unlink(new.name, dir_fd=new.fd)
