"""The flags of ``mlepool worker`` as settings; and all settings, printed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlepool.config import DAY, ListenAddress
from mlepool.errors import ConfigError
from mlepool.settings.keys import KEYS
from mlepool.settings.reading import Found

__all__ = ["Given", "check_commands", "options_of", "print_settings", "settings_of"]

Given = Mapping[str, str | Sequence[str] | None]

# Flags whose name is not that of their setting.
NAMES = {"label": "labels"}


def settings_of(given: Given) -> dict[str, str | list[str]]:
    """Make settings of flags; ``set`` is ``KEY=VALUE``, or ``TABLE.KEY=VALUE``.

    Raises:
        ConfigError: If one of ``set`` is neither.
    """
    settings: dict[str, str | list[str]] = {}
    for flag, value in given.items():
        if isinstance(value, str):
            settings[flag] = value
        elif value and flag != "set":
            settings[NAMES.get(flag, flag)] = list(value)
    for pair in given.get("set") or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r}: give KEY=VALUE")
        table, dot, key = name.partition(".")
        known = settings.setdefault(table, [])
        several = [known] if isinstance(known, str) else known
        settings[table] = [*several, f"{key}={value}" if dot else value]
    return settings


def options_of(given: Given, file: Path | None) -> list[str]:
    """Give the flags again, as a unit repeats them."""
    options = []
    for flag, value in given.items():
        several = [value] if isinstance(value, str) else value or ()
        options += [f"--{flag}={one}" for one in several]
    return options if file is None else [*options, f"--config={file.absolute()}"]


def print_settings(found: Found) -> None:
    """Print every setting with its value and where that is from."""
    for key in KEYS.values():
        value: Any = found.config
        for name in key.place.split("."):
            value = getattr(value, name)
        if key.name == "retain_days":
            value /= DAY
        origin = found.origins.get(key.name, "default")
        print(f"{key.name:<16} {_shown(value):<32} {origin}")


def check_commands(found: Found) -> None:
    """See if the files of commands can be read; nothing in them is run.

    Raises:
        ConfigError: If one is not there, or is no Python.
    """
    origin = found.origins.get("commands", "default")
    for one in found.config.commands:
        if not one.endswith(".py") and "/" not in one:
            continue  # a module: to look for it may run what it is in
        try:
            compile(Path(one).read_bytes(), one, "exec")
        except SyntaxError as exc:
            place = f"{one}:{exc.lineno or 1}"
            raise ConfigError(f"{origin}: {place}: {exc.msg}") from None
        except (OSError, ValueError) as exc:
            cause = getattr(exc, "strerror", None) or exc
            raise ConfigError(f"{origin}: {one}: {cause}") from None


def _shown(value: Any) -> str:
    if isinstance(value, ListenAddress):
        host = f"[{value.host}]" if ":" in value.host else value.host
        return f"{'' if value.tls else 'ws://'}{host}:{value.port}"
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value)) or "-"
    return repr(value) if value or isinstance(value, int | float) else "-"
