"""Loads custom commands: from files, modules, installed packages, and from objects."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from mlepool.worker.custom.capabilities import Part, parts_of
from mlepool.worker.custom.command import UnfitError

__all__ = ["GROUP", "LoadError", "Source", "Trouble", "find_sources", "in_words"]

GROUP = "mlepool.commands"  # of entry points
OUR_FOLDER = Path(__file__).parents[1]
OUR_PREFIX = "mlepool_commands_"  # of the modules that files become
_BROUGHT: set[str] = set()  # names of modules that files of commands have imported
LIBRARY = sysconfig.get_path("stdlib")
MAX_TEXT = 500  # characters of an error: it is part of the worker's state


class Trouble(NamedTuple):
    """What is wrong with something that was to be loaded.

    Attributes:
        text: Where and what, with all that an exception says: for the log.
        shown: The same for clients, who may read less than the worker: of exceptions
            of the author's code the type alone, since their text may hold a secret.
    """

    text: str
    shown: str

    @classmethod
    def known(cls, text: str) -> Trouble:
        """Make one of a text of our own."""
        return cls(text, text)

    def also(self, text: str) -> Trouble:
        """Add something to both."""
        return Trouble(f"{self.text} {text}", f"{self.shown} {text}")


class LoadError(Exception):
    """Something could not be loaded; the text says what, where and why.

    Args:
        trouble: The same, and what clients may see of it.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.text)
        self.trouble = trouble


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


class FileSource:
    """A Python file, wherever it is, and the modules beside it that it imports.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = str(path)
        self._name = f"{OUR_PREFIX}{path.stem}_{_digest(path)}"

    def load(self) -> list[Part]:
        """Run it as a module of its own."""
        # Not importlib's way: that takes an edit of the same second for none.
        with _anew([self._name, *self._beside()]) as known:
            module = ModuleType(self._name)
            module.__file__ = self.label
            sys.modules[self._name] = module  # dataclasses look there
            try:
                _make_importable(self.path.parent)
                linecache.checkcache(self.label)
                code = compile(self.path.read_bytes(), self.label, "exec")
                exec(code, module.__dict__)
                parts = parts_of(module)
            except BaseException as exc:
                # The code of others: whatever it raises, SystemExit too, is told.
                for name in self._came(known):
                    del sys.modules[name]
                raise LoadError(in_words(exc, self.label)) from exc
            _BROUGHT.update(self._came(known))
            return parts

    def files(self) -> list[Path]:
        """Give its path, and those of the modules beside it."""
        found = map(_file_of, self._beside())
        return [self.path, *(file for file in found if file is not None)]

    def _beside(self) -> list[str]:
        """Give the modules beside it that it or another source has brought.

        Of sources that use the same only the first is seen to bring it.
        """
        return self._in_folder(set(_BROUGHT))

    def _came(self, known: set[str]) -> list[str]:
        """Give the modules beside it that were imported since some were known.

        Not other sources: one that took too long may still be read in its thread.
        """
        new = set(sys.modules) - known
        return self._in_folder({one for one in new if not one.startswith(OUR_PREFIX)})

    def _in_folder(self, names: set[str]) -> list[str]:
        folder = self.path.parent
        files = {name: _file_of(name) for name in names}
        return [name for name, file in files.items() if file and folder in file.parents]


class ModuleSource:
    """A module that can be imported, or an object in it.

    Args:
        label: Its name, as ``"pkg.mod"`` or ``"pkg.mod:object"``.
        name: The capability's, in place of its own.
    """

    def __init__(self, label: str, name: str = "") -> None:
        self.label = label
        self._name = name
        self._module = label.partition(":")[0]
        self._was_loaded = False

    def load(self) -> list[Part]:
        """Import it; the second time anew, and what is in it if it is a package."""
        inner = [one for one in list(sys.modules) if one.startswith(f"{self._module}.")]
        old = [self._module, *inner] if self._was_loaded else []
        with _anew(old):
            try:
                importlib.invalidate_caches()
                thing: Any = importlib.import_module(self._module)
                for part in filter(None, self.label.partition(":")[2].split(".")):
                    thing = getattr(thing, part)
                parts = parts_of(thing, name=self._name)
            except BaseException as exc:
                # The code of others: whatever it raises, SystemExit too, is told.
                raise LoadError(in_words(exc, self.label)) from exc
            self._was_loaded = True
            return parts

    def files(self) -> list[Path]:
        """Give the module's file, and those of its package if it is one."""
        file = _file_of(self._module)
        if file is not None and file.name == "__init__.py":
            return sorted(file.parent.rglob("*.py"))
        return [] if file is None else [file]


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


def in_words(error: BaseException, label: str) -> Trouble:
    """Say where something went wrong, as ``file:line``, and what."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
        text = shown = f"{kind}: {error.msg}"
    elif isinstance(error, UnfitError | ModuleNotFoundError):
        place = _place(error, label) or label
        text = shown = (
            str(error) if isinstance(error, UnfitError) else f"{kind}: {error}"
        )
    else:
        place = _place(error, label) or label
        text, shown = f"{kind}: {error}", f"{kind} (the worker's log says more)"
    return Trouble(f"{place}: {text}"[:MAX_TEXT], f"{place}: {shown}"[:MAX_TEXT])


def _source(wanted: Any, root: Path) -> Source:
    if not isinstance(wanted, str | Path):
        return ObjectSource(wanted)
    text = str(wanted)
    if text.endswith(".py") or "/" in text:
        return FileSource(Path(os.path.abspath(root / Path(text).expanduser())))
    return ModuleSource(text)


def _place(error: BaseException, label: str) -> str:
    """Give the last line of the author's own that the error came through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_machinery(frame.filename)
    ]
    folder = Path(label).parent
    near = [frame for frame in frames if folder in Path(frame.filename).parents]
    frames = near or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _is_machinery(filename: str) -> bool:
    is_ours = OUR_FOLDER in Path(filename).parents
    is_library = filename.startswith(LIBRARY) and "site-packages" not in filename
    return is_ours or is_library or filename.startswith("<frozen")


@contextlib.contextmanager
def _anew(names: Iterable[str]) -> Iterator[set[str]]:
    """Have modules read anew; those that were there are put back if that fails.

    Gives the names of the modules that are there besides.
    """
    names = list(names)
    before = {one: sys.modules.pop(one) for one in names if one in sys.modules}
    for module in before.values():
        # Its compiled form may be taken for that of an edit of the same second.
        with contextlib.suppress(OSError, TypeError, AttributeError):
            os.unlink(module.__cached__)
    known = set(sys.modules)
    try:
        yield known
    except LoadError:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        raise
    for name, module in before.items():
        sys.modules.setdefault(name, module)  # another source may use it


def _make_importable(folder: Path) -> None:
    """Let what is beside a file be imported by it; what is installed goes first."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()


def _file_of(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]
