"""From a file of ssh's or Ansible's to the text of a hosts.toml."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from mlepool.client.inventory.foreign.ansible_ini import read_ansible_ini
from mlepool.client.inventory.foreign.ansible_yaml import read_ansible_yaml
from mlepool.client.inventory.foreign.draft import Draft
from mlepool.client.inventory.foreign.ssh import read_ssh_config
from mlepool.client.inventory.foreign.texts import read_text
from mlepool.client.inventory.foreign.writing import written
from mlepool.client.inventory.model import Inventory
from mlepool.client.inventory.reading import read_parsed
from mlepool.settings.files import ConfigFile

__all__ = ["convert", "read_foreign"]

logger = logging.getLogger("mlepool.client")

_SSH = re.compile(r"^[ \t]*(Host|Match|Include)\b[ \t=]", re.MULTILINE | re.IGNORECASE)
_READERS: Mapping[str, Callable[[Path], Draft]] = {
    "ssh": read_ssh_config,
    "ini": read_ansible_ini,
    "yaml": read_ansible_yaml,
}


def convert(path: Path) -> tuple[str, list[str]]:
    """Make the text of a ``hosts.toml`` of another program's file.

    Args:
        path: An ssh configuration, or an inventory of Ansible's in YAML (by its name)
            or INI.

    Returns:
        The text, and notes of what was left out; neither has secrets.

    Raises:
        ConfigError: If it can't be read: says where.
    """
    draft = _READERS[_kind(path)](path)
    return written(draft, path.name), list(draft.notes)


def read_foreign(path: Path) -> Inventory:
    """Read an inventory of another program as one of ours.

    Raises:
        ConfigError: If it can't be read: says where.
    """
    text, notes = convert(path)
    for note in notes:
        logger.info("%s: %s", path, note)
    return read_parsed(ConfigFile(path, text, tomllib.loads(text)))


def _kind(path: Path) -> str:
    if path.suffix.lower() in (".yml", ".yaml"):
        return "yaml"
    return "ssh" if _SSH.search(read_text(path)) else "ini"
