"""ML-experimenter's ``config.json``: what its keys become here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlepool.settings.files import ConfigFile
from mlepool.settings.keys import KEYS

__all__ = ["is_of_ml_experimenter", "translate"]

# Any of them, at the top of a JSON file, shows whose it is.
SIGNS = ("machineId", "accessToken", "host")
NAMES = {"machineId": "name", "accessToken": "hub_token", "host": "hub"}


def is_of_ml_experimenter(file: ConfigFile) -> bool:
    """Tell if a file is one of ML-experimenter's, and not of ours."""
    return file.is_json and any(sign in file.values for sign in SIGNS)


def translate(
    values: Mapping[str, Any],
) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Give our keys, their values and where those stand.

    ``machineId`` is the name, ``host`` the hub, ``accessToken`` what it knows us by,
    ``port`` where to listen. Our own keys are taken, too; all others are properties.
    """
    for key, value in values.items():
        if key in NAMES:
            is_number = isinstance(value, int) and not isinstance(value, bool)
            yield NAMES[key], str(value) if is_number else value, (key,)
        elif key == "port":
            yield "listen", value, (key,)
        elif key in KEYS:
            yield key, value, (key,)
        else:
            yield "state", {key: value}, (key,)
