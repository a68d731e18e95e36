"""Configuration files, TOML or JSON: what is in them, and in which line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlepool.errors import ConfigError

__all__ = ["MAX_FILE", "ConfigFile", "read_file"]

MAX_FILE = 1024 * 1024  # bytes; nobody has written more than that by hand

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,\n]', re.DOTALL)
_LINE = re.compile(r"\bline (\d+)")


class ConfigFile:
    """A configuration file that could be read.

    Args:
        path: Where it is.
        text: What is in it.
        values: The same, by key.

    Attributes:
        path: Where it is.
        values: What is in it, by key.
    """

    def __init__(self, path: Path, text: str, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values
        self._text = text
        self._lines: dict[tuple[str, ...], int] | None = None

    @property
    def is_json(self) -> bool:
        """True for JSON, False for TOML."""
        return self.path.suffix == ".json"

    def where(self, *keys: str) -> str:
        """Say where a key is set, for people: the file, and the line if it is found.

        Of a key that is not set it is the line of the nearest table around it.
        """
        within = (keys[:count] for count in range(len(keys), 0, -1))
        line = next(filter(None, map(self._line, within)), 0)
        return f"{self.path}:{line}" if line else str(self.path)

    def _line(self, keys: tuple[str, ...]) -> int:
        if not self.is_json:
            return _toml_line(self._text, keys)
        if self._lines is None:
            self._lines = dict(_json_lines(self._text))
        return self._lines.get(keys, 0)


def read_file(path: Path) -> ConfigFile:
    """Read a configuration file: JSON if its name ends with ``.json``, else TOML.

    Raises:
        ConfigError: If it can't be read, or is not what it should be: names the file
            and, where it can, the line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ValueError(f"it is larger than {MAX_FILE} bytes")
        text = data.decode("utf-8-sig")
        values = _parse_json(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deep") from None
    except ValueError as exc:
        raise ConfigError(f"{path}{_line_of(exc, data)}: {exc}") from exc
    return ConfigFile(path, text, values)


def _line_of(exc: ValueError, data: bytes) -> str:
    if "at end of document" in str(exc):
        lines = data.rstrip().count(b"\n") + 1
        return f":{lines}"
    found = _LINE.search(str(exc))
    return f":{found[1]}" if found else ""


def _parse_json(text: str) -> dict[str, Any]:
    values = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(values, dict):
        raise ValueError("it should be an object: { ... }")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _json_lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Give the line of each key of a JSON text, which is known to be right."""
    path: list[str] = [""]
    line, last = 1, ('""', 1)
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "{[":
            path.append("")
        elif token in "}]":
            path.pop()
        elif token == ":":
            path[-1] = json.loads(last[0])
            yield tuple(path[1:]), last[1]
        elif token != ",":
            last = (token, line)


def _toml_line(text: str, keys: tuple[str, ...]) -> int:
    """Find where a key is set, by reading as much of the file as it takes; 0 if not.

    A line sets it if the lines before it are a whole file without it, and it is there
    once enough lines after it are read, too: so strings and comments fool nobody.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if keys[-1] not in line or _has_key(lines[:number], keys) is not False:
            continue
        for end in range(number + 1, len(lines) + 1):
            found = _has_key(lines[:end], keys)
            if found is not None:
                break
        if found:
            return number + 1
    return 0


def _has_key(lines: list[str], keys: tuple[str, ...]) -> bool | None:
    """Tell if lines set a key; None if they are no whole file."""
    try:
        values: Any = tomllib.loads("\n".join(lines))
    except ValueError:
        return None
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
