"""Looking at files, and where a connection is."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator

from mlepool.files.descent import FOLDER_FLAGS, Root
from mlepool.wire.answers import FileInfo, Listing
from mlepool.worker.entries import (
    find_matches,
    info_of,
    next_names,
    page_of,
    split_pattern,
)
from mlepool.worker.jail import FilePath, Place, as_path, named, shown
from mlepool.worker.registry import Context, command

__all__ = ["cd", "cwd", "glob", "ls", "stat"]


@command(role="any", blocks=True, repeatable=True)
def cd(ctx: Context, dest: FilePath = "~") -> str:
    """Go to another folder: this connection's relative paths count from it.

    Those of ``run``, of the commands for files, and the worker's side of ``sync``,
    ``put`` and ``get``. It belongs to the connection: other connections are not moved,
    nor is the worker; it stays over lost links and ``disconnect()``. What was called
    before is not affected.

    Args:
        dest: The folder; relative to the present one, ``~`` is the account's home.

    Returns:
        Its whole path, without links.

    Raises:
        FileNotFoundError: If it is not there.
        NotADirectoryError: If it is no folder.
        PermissionError: If the account may not enter it, or this client.
    """
    with ctx.jail.at(dest) as place:
        fd = os.open(place.name, FOLDER_FLAGS, dir_fd=place.fd)
        try:
            os.stat(b".", dir_fd=fd)  # only who may enter it can do that
        finally:
            os.close(fd)
    return place.real.decode()


@command(role="any")
def cwd(ctx: Context) -> str:
    """Tell where this connection is: the folder that relative paths count from.

    Returns:
        Its whole path. Before the first ``cd`` it is the folder that the worker was
        started in.
    """
    return str(ctx.cwd)


@command(role="sync", blocks=True, repeatable=True)
def ls(ctx: Context, src: FilePath = ".", *, after: bytes = b"") -> Listing:
    """List a folder: all that is in it, hidden files too, by name.

    Args:
        src: The folder; of anything else, it alone is listed.
        after: Begin after this name. Not needed: what does not fit in one answer is
            asked for by itself.

    Returns:
        A :class:`~mlepool.Listing`: a sequence of :class:`~mlepool.FileInfo`, and a
        table when it is printed.

    Raises:
        FileNotFoundError: If it is not there.
        PermissionError: If the account may not read it, or this client.
    """
    with ctx.jail.at(src) as place:
        if not modes.S_ISDIR(place.stat().st_mode):
            return Listing(place.path, (info_of(place),))
        fd = os.open(place.name, FOLDER_FLAGS, dir_fd=place.fd)
        try:
            found = (
                (name, Place(fd, name, os.path.join(place.real, name)))
                for name in next_names(fd, after)
            )
            return page_of(place.path, found, after=after)
        finally:
            os.close(fd)


@command(role="sync", blocks=True, repeatable=True)
def stat(ctx: Context, path: FilePath, *, follow: bool = True) -> FileInfo:
    """Describe a file, folder or link.

    Args:
        path: Which.
        follow: False to describe a link itself, and not what it leads to.

    Returns:
        A :class:`~mlepool.FileInfo`: kind, size, mode, time, owner, ...

    Raises:
        FileNotFoundError: If it is not there, or a link leads nowhere.
        PermissionError: If the account may not look there, or this client.
    """
    with ctx.jail.at(path, follow=follow) as place:
        return info_of(place)


@command(role="sync", blocks=True, repeatable=True)
def glob(ctx: Context, pattern: FilePath, *, after: bytes = b"") -> Listing:
    """Find files and folders by a pattern, as a shell does.

    ``*`` is any part of a name, ``?`` one character, ``[abc]`` one of some, ``**`` any
    number of folders. Names that begin with a dot are only found by a part that does.
    Symbolic links are found, but not looked into.

    Args:
        pattern: E.g. ``"runs/*/metrics.json"`` or ``"**/*.py"``.
        after: As of ``ls``.

    Returns:
        A :class:`~mlepool.Listing`, sorted; its names are spelled as the pattern is.

    Raises:
        FileNotFoundError: If the folder before the first wildcard is not there.
        ValueError: If ``..`` stands after a wildcard, or over 100,000 match.
        PermissionError: If the account may not look there, or this client.
    """
    raw = as_path(pattern)
    prefix, parts = split_pattern(raw)
    jail = ctx.jail
    with jail.at(prefix or b".") as place:
        root = Root(os.open(place.name, FOLDER_FLAGS, dir_fd=place.fd))
        try:
            paths = find_matches(
                root,
                parts,
                is_open=lambda path: jail.is_open(os.path.join(place.real, path)),
            )
            with named(place.real):
                found = _places(root, paths, place.real)
                named_so = ((os.path.join(prefix, path), one) for path, one in found)
                return page_of(shown(raw), named_so, after=after)
        finally:
            root.close()


def _places(
    root: Root, paths: list[bytes], real: bytes
) -> Iterator[tuple[bytes, Place]]:
    for path in paths:
        try:
            fd, name = root.parent(path)
        except OSError:
            continue  # its folder has gone meanwhile
        yield path, Place(fd, name, os.path.join(real, path))
