"""Values as somebody wrote them: checked, blamed on where they stand, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mlepool.errors import ConfigError
from mlepool.settings.keys import Key, Kind

__all__ = ["Entry", "merge"]

MAX_SHOWN = 80  # characters of a wrong value


class Entry(NamedTuple):
    """A value as somebody wrote it.

    Attributes:
        key: What it is for.
        value: As a file has it.
        where: Says where it stands: it, or what is named within it.
        folder: What relative paths count from.
        is_flag: True of the command line.
    """

    key: Key
    value: Any
    where: Callable[..., str]
    folder: Path
    is_flag: bool = False

    def check(self) -> Any:
        """Make what the worker uses of it.

        Raises:
            ConfigError: If it is wrong.
        """
        try:
            value = self.key.read(self.value)
        except ValueError as exc:
            raise self._error(exc) from None
        if self.key.is_path:
            return self.folder / value
        if self.key.name == "commands":
            return tuple(self._rooted(one) for one in value)
        return value

    def _rooted(self, command: str) -> str:
        """Make a file's path whole; a module's name stays as it is."""
        if command.endswith(".py") or "/" in command:
            return str(self.folder / Path(command).expanduser())
        return command

    def _error(self, exc: ValueError) -> ConfigError:
        key = self.key
        if self.is_flag and isinstance(exc, ConfigError):
            return exc  # it says all
        if key.kind is Kind.TABLE and isinstance(self.value, dict):
            return self._error_within(exc)
        shown = "..." if key.is_secret else repr(self.value)[:MAX_SHOWN]
        return ConfigError(f"{self.where()}: {key.name} = {shown}: {exc}")

    def _error_within(self, exc: ValueError) -> ConfigError:
        """Find the entry of a table that is wrong; its value may be a secret."""
        for name, value in self.value.items():
            try:
                self.key.read({name: value})
            except ValueError as problem:
                text = str(problem).removeprefix(f"{name}: ")
                place = f"{self.where(name)}: {self.key.name}.{name[:MAX_SHOWN]}"
                return ConfigError(f"{place}: {text}")
        return ConfigError(f"{self.where()}: {self.key.name}: {exc}")


def merge(entries: Iterable[Entry]) -> tuple[dict[str, Any], dict[str, str]]:
    """Put entries together, the later above the earlier; tables entry by entry.

    Returns:
        The values, and where they stand, both by the key's name.

    Raises:
        ConfigError: If one is wrong.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for entry in entries:
        name, value = entry.key.name, entry.check()
        if entry.key.kind is Kind.TABLE and name in values:
            values[name] = {**values[name], **value}
            origins[name] += f", {entry.where()}"
        else:
            values[name], origins[name] = value, entry.where()
    return values, origins
