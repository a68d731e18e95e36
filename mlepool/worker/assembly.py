"""The settings of a worker that is part of another program."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from msgspec import structs

from mlepool.config import (
    DEFAULT_PORT,
    WorkerConfig,
    default_state_dir,
    parse_listen,
)

__all__ = ["make_config"]


def make_config(config: WorkerConfig | None = None, **settings: Any) -> WorkerConfig:
    """Make a worker's settings of keywords.

    Args:
        config: What they are put over; by default what ``mlepool worker`` does without
            flags, environment and files.
        **settings: Fields of :class:`~mlepool.config.WorkerConfig`. ``listen`` may be
            text, as for the command line; ``state_dir`` and ``root`` too.

    Raises:
        TypeError: If there is no such field.
        ConfigError: If it can't listen there.
    """
    for name in settings:
        if name not in WorkerConfig.__struct_fields__:
            raise TypeError(f"a worker has no setting {name!r}")
    if config is None:
        config = WorkerConfig(
            default_state_dir(),
            parse_listen(f":{DEFAULT_PORT}"),
            socket.gethostname(),
            Path.cwd(),
        )
    if isinstance(settings.get("listen"), str):
        settings["listen"] = parse_listen(settings["listen"])
    for name in ("state_dir", "root"):
        if name in settings:
            settings[name] = Path(settings[name]).expanduser().absolute()
    return structs.replace(config, **settings)
