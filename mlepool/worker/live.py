"""The settings that a worker goes by now: its configuration, and what clients set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from mlepool.config import WorkerConfig, write_private
from mlepool.settings.properties import check_labels, check_name, check_properties

__all__ = ["NEEDS_RESTART", "OVERRIDES_FILE", "LiveConfig", "Overrides"]

logger = logging.getLogger("mlepool.worker")

OVERRIDES_FILE = "state.json"  # in the state folder: what clients have set
NEEDS_RESTART = (
    *("state_dir", "listen", "root", "commands", "reload"),
    *("hub", "hub_token"),
)

Hook = Callable[[WorkerConfig], None]


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients have set: it stands above the configuration, and is kept.

    Attributes:
        name: What the worker calls itself; None for what the configuration says.
        labels: Set beside those of the configuration, or in their place.
        extra: Properties; likewise.
    """

    name: str | None = None
    labels: dict[str, str] = {}
    extra: dict[str, Any] = {}

    def over(self, config: WorkerConfig) -> WorkerConfig:
        """Put it over a configuration."""
        return structs.replace(
            config,
            name=config.name if self.name is None else self.name,
            labels={**config.labels, **self.labels},
            extra={**config.extra, **self.extra},
        )


class LiveConfig:
    """What a worker goes by, and who is told when that changes.

    Args:
        config: What it was started with.

    Attributes:
        config: What counts now.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._base = config
        self._path = config.state_dir / OVERRIDES_FILE
        self._own = _read(self._path)
        self._hooks: list[Hook] = []
        self.config = self._own.over(config)

    def on_change(self, hook: Hook) -> None:
        """Have a function called with all settings, after some have changed."""
        self._hooks.append(hook)

    def reconfigure(self, config: WorkerConfig) -> None:
        """Go by another configuration, but for what takes a restart: that is logged."""
        kept = {name: getattr(self._base, name) for name in NEEDS_RESTART}
        waiting = [name for name in kept if getattr(config, name) != kept[name]]
        if waiting:
            text = "changed in the configuration, and waiting for a restart: %s"
            logger.warning(text, ", ".join(waiting))
        self._base = structs.replace(config, **kept)
        self._renew()

    def set_name(self, name: str | None) -> None:
        """Rename the worker; None for the name that the configuration says.

        Raises:
            ValueError: If it can't be a name.
            OSError: If it can't be kept.
        """
        if name is not None:
            check_name(name)
        self._set(structs.replace(self._own, name=name))

    def set_labels(self, labels: Mapping[str, str | None]) -> None:
        """Set labels; None for what the configuration says of one.

        Raises:
            ValueError: If one can't be.
            OSError: If they can't be kept.
        """
        own = _merged(self._own.labels, labels)
        check_labels({**self._base.labels, **own})
        self._set(structs.replace(self._own, labels=own))

    def set_properties(self, values: Mapping[str, Any]) -> None:
        """Set properties; None for what the configuration says of one.

        Raises:
            ValueError: If one can't be.
            OSError: If they can't be kept.
        """
        own = _merged(self._own.extra, values)
        whole = check_properties({**self._base.extra, **own})
        plain = {name: whole[name] for name in own}
        self._set(structs.replace(self._own, extra=plain))

    def _set(self, own: Overrides) -> None:
        write_private(self._path, msgspec.json.encode(own))
        self._own = own
        self._renew()

    def _renew(self) -> None:
        new, old = self._own.over(self._base), self.config
        names = [
            name
            for name in WorkerConfig.__struct_fields__
            if getattr(new, name) != getattr(old, name)
        ]
        if not names:
            return
        self.config = new
        logger.info("settings have changed: %s", ", ".join(names))
        for hook in tuple(self._hooks):
            try:
                hook(new)
            except Exception:
                # One part's trouble: the others are to have the new settings, too.
                logger.exception("new settings could not be taken")


def _merged(own: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**own, **values}
    return {key: value for key, value in merged.items() if value is not None}


def _read(path: Path) -> Overrides:
    try:
        own = msgspec.json.decode(path.read_bytes(), type=Overrides)
        if own.name is not None:
            check_name(own.name)
        check_labels(own.labels)
        check_properties(own.extra)
        return own
    except (FileNotFoundError, NotADirectoryError):
        return Overrides()
    except (OSError, msgspec.MsgspecError, ValueError) as exc:
        # A worker with its configuration's name and labels is better than none.
        logger.error("%s is damaged, and left aside: %s", path, exc)
        return Overrides()
