"""Loads custom commands: from files, modules, installed packages, and from objects."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from mlepool.worker.capabilities import Part, parts_of
from mlepool.worker.custom import UnfitError

__all__ = ["GROUP", "LoadError", "Source", "find_sources", "in_words"]

GROUP = "mlepool.commands"  # of entry points
OUR_FOLDER = Path(__file__).parent
LIBRARY = sysconfig.get_path("stdlib")
MAX_TEXT = 500  # characters of an error: it is part of the worker's state


class LoadError(Exception):
    """Something could not be loaded; the text says what, where and why."""


class Source(Protocol):
    """Something that commands come from."""

    @property
    def label(self) -> str:
        """What it is, for people."""

    def load(self) -> list[Part]:
        """Read it, anew if it was read before; blocking.

        Raises:
            LoadError: Whatever is wrong with it. What was read before is kept then.
        """

    def files(self) -> list[Path]:
        """Give the files that it was read from."""


class FileSource(NamedTuple):
    """A Python file, wherever it is."""

    path: Path

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    def load(self) -> list[Part]:
        """Run it as a module of its own."""
        # Not importlib's way: that takes an edit of the same second for none.
        name = f"mlepool_commands_{self.path.stem}_{_digest(self.path)}"
        before = sys.modules.get(name)
        module = ModuleType(name)
        module.__file__ = str(self.path)
        sys.modules[name] = module  # dataclasses look there for their annotations
        try:
            linecache.checkcache(str(self.path))
            code = compile(self.path.read_bytes(), str(self.path), "exec")
            exec(code, module.__dict__)
            return parts_of(module)
        except BaseException as exc:
            # The code of others: whatever it raises, SystemExit too, is told.
            _put_back(name, before)
            raise LoadError(in_words(exc, self.label)) from exc

    def files(self) -> list[Path]:
        """Give its path."""
        return [self.path]


class ModuleSource(NamedTuple):
    """A module that can be imported, or an object in it: ``"pkg.mod:name"``."""

    label: str
    name: str = ""

    def load(self) -> list[Part]:
        """Import it, and what is in it if it is a package."""
        module_name, _, attribute = self.label.partition(":")
        before = _take_out(module_name)
        try:
            importlib.invalidate_caches()
            thing: Any = importlib.import_module(module_name)
            for part in attribute.split(".") if attribute else ():
                thing = getattr(thing, part)
            return parts_of(thing, name=self.name)
        except BaseException as exc:
            # The code of others: whatever it raises, SystemExit too, is told.
            _take_out(module_name)
            sys.modules.update(before)
            raise LoadError(in_words(exc, self.label)) from exc

    def files(self) -> list[Path]:
        """Give the module's file, and those of its package if it is one."""
        module = sys.modules.get(self.label.partition(":")[0])
        file = Path(getattr(module, "__file__", None) or "")
        if file.name == "__init__.py":
            return sorted(file.parent.rglob("*.py"))
        return [file] if file.suffix == ".py" else []


class ObjectSource(NamedTuple):
    """A function, class or instance that an embedding application gives."""

    thing: Any

    @property
    def label(self) -> str:
        """Its name, or that of its type."""
        return str(getattr(self.thing, "__name__", type(self.thing).__name__))

    def load(self) -> list[Part]:
        """Find the commands in it."""
        try:
            return parts_of(self.thing)
        except Exception as exc:
            # The code of others: whatever it raises is told.
            raise LoadError(in_words(exc, self.label)) from exc

    def files(self) -> list[Path]:
        """Give nothing: the application has it."""
        return []


def find_sources(wanted: Iterable[Any], *, root: Path) -> list[Source]:
    """Give the sources of what was asked for, and of what installed packages offer.

    Args:
        wanted: Paths of files, names of modules (``"pkg.mod"``, ``"pkg.mod:name"``),
            or functions, classes and instances.
        root: What relative paths count from.
    """
    sources = [_source(one, root) for one in wanted]
    found = importlib.metadata.entry_points(group=GROUP)
    return [*sources, *(ModuleSource(one.value, one.name) for one in found)]


def in_words(error: BaseException, label: str) -> str:
    """Say where something went wrong, as ``file:line``, and what."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
        text = f"{type(error).__name__}: {error.msg}"
    else:
        place = _place(error, label) or label
        what = "" if isinstance(error, UnfitError) else f"{type(error).__name__}: "
        text = f"{what}{error}"
    return f"{place}: {text}"[:MAX_TEXT]


def _source(wanted: Any, root: Path) -> Source:
    if not isinstance(wanted, str | Path):
        return ObjectSource(wanted)
    text = str(wanted)
    if text.endswith(".py") or "/" in text:
        return FileSource(root / Path(text).expanduser())
    return ModuleSource(text)


def _place(error: BaseException, label: str) -> str:
    """Give the last line of the author's own that the error came through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_machinery(frame.filename)
    ]
    frames = [frame for frame in frames if frame.filename == label] or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _is_machinery(filename: str) -> bool:
    is_ours = Path(filename).parent == OUR_FOLDER
    is_library = filename.startswith(LIBRARY) and "site-packages" not in filename
    return is_ours or is_library or filename.startswith("<frozen")


def _take_out(name: str) -> dict[str, ModuleType]:
    """Have a module, and what is in it, imported anew; gives what was there."""
    inner = [one for one in sys.modules if one == name or one.startswith(f"{name}.")]
    return {one: sys.modules.pop(one) for one in inner}


def _put_back(name: str, before: ModuleType | None) -> None:
    if before is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = before


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]
