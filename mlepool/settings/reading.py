"""From flags, the environment and a file to one struct, and what came from where."""

from __future__ import annotations

import difflib
import functools
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlepool.config import (
    DEFAULT_PORT,
    Limits,
    Retention,
    WorkerConfig,
    default_state_dir,
    parse_listen,
)
from mlepool.errors import ConfigError
from mlepool.settings.entries import Entry, merge
from mlepool.settings.files import ConfigFile, read_file
from mlepool.settings.keys import KEYS, Key, Kind
from mlepool.settings.ml_experimenter import is_of_ml_experimenter, translate

__all__ = ["CONFIG_FILES", "Flags", "Found", "Source"]

CONFIG_FILES = ("config.toml", "config.json")  # in the state folder; one of them
CONFIG_VARIABLE = "MLEPOOL_CONFIG"
OTHER_VARIABLES = {
    CONFIG_VARIABLE,
    "MLEPOOL_HOME",
    "MLEPOOL_JOB",
    "MLEPOOL_JOB_STATE_DIR",
    "MLEPOOL_LOOP",
}
ALIKE = 0.85  # of 1: a variable is taken for a setting's, mistyped
FLAGS = {
    "commands": "--commands",
    "labels": "--label",
    "listen": "--listen",
    "name": "--name",
    "state_dir": "--state-dir",
}
GROUPS: dict[str, type] = {"limits": Limits, "retention": Retention}

Flags = Mapping[str, str | Sequence[str]]


class Found(NamedTuple):
    """What a worker is to go by.

    Attributes:
        config: All settings.
        origins: For each key where it was set, for people.
        notes: What is odd, but no error.
    """

    config: WorkerConfig
    origins: dict[str, str]
    notes: list[str]


class Source:
    """Where a worker's settings come from; they can be read again and again.

    Flags stand above the environment, that above the file, and that above defaults.
    Tables (``labels``, ``state``) are put together.

    Args:
        flags: By key; of a table or list it may be several.
        environ: The environment.
        file: The file; by default what ``MLEPOOL_CONFIG`` names, or else
            ``config.toml`` or ``config.json`` in the state folder, if it is there.
    """

    def __init__(
        self, flags: Flags, environ: Mapping[str, str], *, file: Path | None = None
    ) -> None:
        self._flags = dict(flags)
        self._environ = dict(environ)
        self._here = Path.cwd()
        named = self._environ.get(CONFIG_VARIABLE)
        file = file or (Path(named) if named else None)
        self._named = None if file is None else self._here / file.expanduser()
        self._files: list[Path] = []

    def read(self) -> Found:
        """Read all there is.

        Raises:
            ConfigError: If a file can't be read, or a key is unknown or has a wrong
                value. It says where, which key, and of an unknown one the nearest.
        """
        try:
            return self._read()
        except OSError as exc:
            raise ConfigError(f"{exc.filename}: {exc.strerror}") from exc

    def _read(self) -> Found:
        above = [*self._from_environment(), *self._from_flags()]
        values, origins = merge(above)
        state_dir = values.get("state_dir", self._here / default_state_dir())
        file = self._read_file(state_dir)
        if file is not None:
            values, origins = merge([*self._from_file(file), *above])
        values.setdefault("state_dir", state_dir)
        self._files = self._candidates(values["state_dir"])
        config = self._build(values)
        return Found(config, origins, [*self._odd(config, file)])

    @property
    def named(self) -> Path | None:
        """The file that was named; None for one in the state folder, if any."""
        return self._named

    def stamp(self) -> list[tuple[int, ...]]:
        """Give what is another one once the file read last may have changed."""
        found: list[tuple[int, ...]] = []
        for path in self._files:
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
            except OSError as exc:
                found.append((exc.errno or 0,))
        return found

    def _candidates(self, state_dir: Path) -> list[Path]:
        if self._named is not None:
            return [self._named]
        return [state_dir / name for name in CONFIG_FILES]

    def _read_file(self, state_dir: Path) -> ConfigFile | None:
        paths = self._candidates(state_dir)
        if self._named is not None:
            return read_file(paths[0])
        there = [path for path in paths if path.exists()]
        if len(there) > 1:
            raise ConfigError(f"there are {there[0]} and {there[1].name}: remove one")
        return read_file(there[0]) if there else None

    def _from_flags(self) -> Iterator[Entry]:
        for name, given in self._flags.items():
            flag = FLAGS.get(name, f"--set {name[:80]}")
            key = _find(name, flag)
            if key.is_secret:
                text = f"it is a secret: set it in the file, or as {key.variable}"
                raise ConfigError(f"{flag}: {text}")
            texts = [given] if isinstance(given, str) else given
            values = [_from_text(key, text, flag) for text in texts]
            if key.kind is Kind.LIST:
                values = [[one for some in values for one in some]]
            for value in values:
                yield Entry(key, value, _at(flag), self._here, is_flag=True)

    def _from_environment(self) -> Iterator[Entry]:
        for key in KEYS.values():
            if text := self._environ.get(key.variable):
                value = _from_text(key, text, key.variable)
                yield Entry(key, value, _at(key.variable), self._here)

    def _from_file(self, file: ConfigFile) -> Iterator[Entry]:
        folder = file.path.parent
        found: Iterable[tuple[str, Any, tuple[str, ...]]]
        if is_of_ml_experimenter(file):
            found = translate(file.values)
        else:
            found = [(name, one, (name,)) for name, one in file.values.items()]
        for name, value, place in found:
            where = functools.partial(file.where, *place)
            key = _find(name, where())
            if name == "state_dir" and self._named is None:
                text = "this file is in the state folder; name it with --config"
                raise ConfigError(f"{where()}: state_dir: {text}")
            yield Entry(key, value, where, folder)

    def _build(self, values: dict[str, Any]) -> WorkerConfig:
        fields: dict[str, Any] = {
            "listen": parse_listen(f":{DEFAULT_PORT}"),
            "name": socket.gethostname(),
            "root": self._here,
        }
        groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
        for name, value in values.items():
            group, _, field = KEYS[name].place.rpartition(".")
            (groups[group] if group else fields)[field] = value
        made = {name: GROUPS[name](**inner) for name, inner in groups.items()}
        return WorkerConfig(**fields, **made)

    def _odd(self, config: WorkerConfig, file: ConfigFile | None) -> Iterator[str]:
        """Say what is no error, and yet worth a word."""
        known = {key.variable for key in KEYS.values()} | OTHER_VARIABLES
        for name in self._environ:
            if name.startswith("MLEPOOL_") and name not in known:
                for near in difflib.get_close_matches(name, known, 1, ALIKE):
                    yield f"{name} is no setting; did you mean {near}?"
        if config.hub:
            yield f"workers do not dial out yet: the hub {config.hub!r} is only noted"
        if file and config.hub_token and file.path.stat().st_mode & 0o077:
            yield f"{file.path} has a secret in it, and others may read it"


def _find(name: str, where: str) -> Key:
    if name in KEYS:
        return KEYS[name]
    shown = name[:80]
    near = difflib.get_close_matches(shown, KEYS, 1, 0)[0]
    raise ConfigError(f"{where}: there is no key {shown!r}; did you mean {near!r}?")


def _at(name: str) -> Callable[..., str]:
    return lambda *_: name


def _from_text(key: Key, text: str, where: str) -> Any:
    try:
        return key.from_text(text)
    except (ValueError, RecursionError) as exc:
        shown = "..." if key.is_secret else repr(text)
        raise ConfigError(f"{where}: {key.name} = {shown}: {exc}") from None
