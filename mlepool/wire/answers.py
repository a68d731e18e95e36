"""What the commands for files and for the host answer, as typed values."""

import datetime
import html
import stat
from collections.abc import Iterator
from typing import Self, overload

import msgspec

__all__ = ["MAX_CONTENT", "Content", "FileInfo", "Listing", "OsInfo"]

MAX_CONTENT = 768 * 1024  # bytes of a file in one answer, which is one frame

# By kind, what stands before the permission bits.
_LETTERS = {
    "file": stat.S_IFREG,
    "folder": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "device": stat.S_IFCHR,
}


class FileInfo(msgspec.Struct, frozen=True, array_like=True):
    """A file, folder or something else on a worker; ``str()`` is a line of ``ls -l``.

    Attributes:
        name: Its name; of ``glob``, its path as the pattern is spelled. What is no
            UTF-8 in it is as :func:`os.fsdecode` has it: commands take it back.
        kind: ``"file"``, ``"folder"``, ``"link"``, ``"pipe"``, ``"socket"`` or
            ``"device"``.
        size: Bytes.
        mode: Permission bits.
        modified: When its content was last changed, seconds since the epoch.
        owner: The account that it belongs to; its number where it has no name.
        group: The group.
        target: Where a link leads.
        path: Its whole path, as ``name``.
        raw: The name as the system has it, where that is no UTF-8.
        raw_path: The path likewise.
    """

    name: str
    kind: str
    size: int = 0
    mode: int = 0
    modified: float = 0.0
    owner: str = ""
    group: str = ""
    target: str = ""
    path: str = ""
    raw: bytes = b""
    raw_path: bytes = b""

    def decoded(self) -> Self:
        """Give it with names that can be given back: what was sent has U+FFFD."""
        if not (self.raw or self.raw_path):
            return self
        name = self.raw.decode(errors="surrogateescape") or self.name
        path = self.raw_path.decode(errors="surrogateescape") or self.path
        return msgspec.structs.replace(self, name=name, path=path)

    @property
    def is_folder(self) -> bool:
        """True for a folder, not for a link to one."""
        return self.kind == "folder"

    @property
    def is_file(self) -> bool:
        """True for a file, not for a link to one."""
        return self.kind == "file"

    def cells(self) -> tuple[str, ...]:
        """Give what a table shows: mode, owner, group, size, time, name."""
        mode = stat.filemode(_LETTERS.get(self.kind, 0) | self.mode)
        when = datetime.datetime.fromtimestamp(self.modified)
        name = f"{self.name} -> {self.target}" if self.kind == "link" else self.name
        name += "/" if self.is_folder else ""
        # A name is the account's own choice: it must not write to our terminal.
        name = name if name.isprintable() else repr(name)
        time = f"{when:%Y-%m-%d %H:%M}"
        return mode, self.owner, self.group, str(self.size), time, name

    def __str__(self) -> str:
        return " ".join(self.cells())


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """What is in a folder, or matches a pattern, by name; ``str()`` is like ``ls -l``.

    A sequence of :class:`FileInfo`; an entry is found by its name, too.

    Attributes:
        path: The folder's whole path; of ``glob`` the pattern.
        entries: What is there.
        more: If this is only a part: the last name that was looked at, as bytes.
    """

    path: str
    entries: tuple[FileInfo, ...] = ()
    more: bytes = b""

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [one.name for one in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[FileInfo]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return any(name in {one.name, one} for one in self.entries)

    @overload
    def __getitem__(self, index: int | str) -> FileInfo: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[FileInfo, ...]: ...

    def __getitem__(self, index: int | str | slice) -> FileInfo | tuple[FileInfo, ...]:
        """Give an entry by its number or name.

        Raises:
            IndexError, KeyError: If there is none.
        """
        if not isinstance(index, str):
            return self.entries[index]
        for one in self.entries:
            if one.name == index:
                return one
        raise KeyError(index)

    def __str__(self) -> str:
        rows = [one.cells() for one in self.entries]
        if not rows:
            return f"{self.path}: nothing"
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join([f"{self.path}:", *(_line(row, widths) for row in rows)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heads = ("mode", "owner", "group", "size", "modified", "name")
        rows = [_html("th", heads), *(_html("td", one.cells()) for one in self.entries)]
        title = f"<caption>{html.escape(self.path)}</caption>"
        return f"<table>{title}{''.join(rows)}</table>"


class Content(msgspec.Struct, frozen=True, array_like=True):
    """A part of a file; what a client's ``read`` is made of.

    Attributes:
        path: The file's whole path.
        data: The bytes.
        offset: Where they begin in the file.
        end: Where what was asked for ends; there may be less by then.
        file: Which file it is, however it is called: device and inode.
    """

    path: str
    data: bytes
    offset: int
    end: int
    file: tuple[int, int]


class OsInfo(msgspec.Struct, frozen=True, array_like=True):
    """An operating system; ``str()`` is a line about it.

    Attributes:
        system: ``"linux"``, ``"mac"`` or ``"windows"``; else as it calls itself.
        release: Of the kernel.
        distribution: What the system is called, for people; empty where not known.
        machine: E.g. ``"x86_64"``.
        hostname: The host's name.
    """

    system: str
    release: str = ""
    distribution: str = ""
    machine: str = ""
    hostname: str = ""

    def __str__(self) -> str:
        name = self.distribution or self.system
        return f"{name} ({self.system} {self.release}, {self.machine})"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Align a row: numbers to the right, the name as long as it is."""
    mode, owner, group, size, time, name = row
    left = f"{mode} {owner:<{widths[1]}} {group:<{widths[2]}}"
    return f"{left} {size:>{widths[3]}} {time} {name}"


def _html(kind: str, cells: tuple[str, ...]) -> str:
    # Notebooks put cells to the right: numbers belong there, names do not.
    start = f'<{kind} style="text-align:left">'
    whole = "".join(f"{start}{html.escape(one)}</{kind}>" for one in cells)
    return f"<tr>{whole}</tr>"
