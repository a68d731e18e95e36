"""Files of other programs, as text."""

from __future__ import annotations

from pathlib import Path

from mlepool.errors import ConfigError
from mlepool.settings.files import MAX_FILE

__all__ = ["read_text"]


def read_text(path: Path) -> str:
    """Read a file of at most 1 MiB; odd bytes are replaced.

    Raises:
        ConfigError: If it can't be read, or is too large.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: it is larger than {MAX_FILE} bytes")
    return data.decode("utf-8-sig", "replace")
