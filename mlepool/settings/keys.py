"""Every setting of a worker: its name, what it may be, and where it belongs."""

from __future__ import annotations

import enum
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from mlepool.config import DAY, MIN_QUOTA, Secret, parse_listen
from mlepool.settings.properties import check_labels, check_name, check_properties

__all__ = ["KEYS", "Key", "Kind"]

SIZE = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([KMGT]?)i?B?\s*", re.I)
PART = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*(%?)\s*")

Read = Callable[[Any], Any]
Count = Annotated[int, msgspec.Meta(ge=1)]
Number = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Kind(enum.Enum):
    """How a setting is written as text, in the environment and in flags."""

    TEXT = "text"
    NUMBER = "a number"
    YES = "true or false"
    LIST = "A:B"
    TABLE = "KEY=VALUE,KEY=VALUE or {...}"


class Key(NamedTuple):
    """One setting.

    Attributes:
        name: In files; the environment has it in capitals, behind ``MLEPOOL_``.
        kind: How it is written as text.
        read: Makes a value of what a file has; a ValueError if that is wrong.
        place: Where it belongs in :class:`~mlepool.config.WorkerConfig`.
        is_path: True if it may be a relative path: to the file's folder, or to the
            current one.
    """

    name: str
    kind: Kind
    read: Read
    place: str
    is_path: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"MLEPOOL_{self.name.upper()}"

    @property
    def is_secret(self) -> bool:
        """True if it is shown nowhere, and can't be a flag."""
        return self.name == "hub_token"

    def from_text(self, text: str) -> Any:
        """Make of text what a file would have in its place.

        Raises:
            ValueError: If it can't be.
        """
        return _FROM_TEXT[self.kind](text)


def _typed(kind: Any, then: Read | None = None, wording: str = "") -> Read:
    def read(value: Any) -> Any:
        try:
            checked = msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            # The kinds of JSON: there is no null in TOML.
            text = str(exc).partition(" - at ")[0].replace(" | null`", "`")
            text = wording or text[:1].lower() + text[1:].replace("`", "")
            raise ValueError(text) from None
        return checked if then is None else then(checked)

    return read


def _size(least: int) -> Read:
    def read(value: int | str) -> int:
        match = SIZE.fullmatch(str(value))
        if match is None:
            raise ValueError("give bytes, or e.g. '10 GiB'")
        size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
        if size < least:
            raise ValueError(f"it must be {least} bytes or more")
        return size

    return _typed(int | str, read)


def _part(value: float | str) -> float:
    match = PART.fullmatch(str(value))
    part = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if part >= 1:
        raise ValueError("give a part, e.g. 0.1 or '10 %'")
    return part


def _days(value: float) -> float:
    if value != value:
        raise ValueError("give a number of days")
    return value * DAY


def _seconds(value: float) -> float:
    if value != value:
        raise ValueError("give a number of seconds")
    return value


def _path(value: str) -> Path:
    if not value or "\0" in value:
        raise ValueError("that is no path")
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:
        raise ValueError(str(exc)) from None


def _roots(values: list[str]) -> tuple[Path, ...]:
    paths = [_path(value) for value in values]
    if not all(path.is_absolute() for path in paths):
        raise ValueError("give absolute paths, or begin with '~'")
    return tuple(paths)


def _commands(values: list[str]) -> tuple[str, ...]:
    if not all(values) or any("\0" in value for value in values):
        raise ValueError("give modules or files")
    return tuple(values)


def _name(value: str) -> str:
    check_name(value)
    return value


def _labels(values: dict[str, str]) -> dict[str, str]:
    check_labels(values)
    return values


def _yes(text: str) -> Any:
    lower = text.strip().lower()
    if lower in ("true", "yes", "on", "1"):
        return True
    return False if lower in ("false", "no", "off", "0") else text


def _number(text: str) -> Any:
    if text.strip().lower() == "none":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _table(text: str) -> Any:
    if text.lstrip().startswith("{"):
        return json.loads(text)
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("give KEY=VALUE,KEY=VALUE or {...}")
    return {key.strip(): value.strip() for key, _, value in pairs}


_FROM_TEXT: Mapping[Kind, Callable[[str], Any]] = {
    Kind.TEXT: str,
    Kind.NUMBER: _number,
    Kind.YES: _yes,
    Kind.LIST: lambda text: [one for one in text.split(os.pathsep) if one],
    Kind.TABLE: _table,
}

_DURABILITY = "it is 'process' or 'power'"
_LISTEN = _typed(int | str, lambda value: parse_listen(str(value)))

KEYS = {
    key.name: key
    for key in (
        Key("state_dir", Kind.TEXT, _typed(str, _path), "state_dir", is_path=True),
        Key("listen", Kind.TEXT, _LISTEN, "listen"),
        Key("name", Kind.TEXT, _typed(str, _name), "name"),
        Key("root", Kind.TEXT, _typed(str, _path), "root", is_path=True),
        Key("roots", Kind.LIST, _typed(list[str], _roots), "roots"),
        Key("labels", Kind.TABLE, _typed(dict[str, str], _labels), "labels"),
        Key("state", Kind.TABLE, _typed(dict[str, Any], check_properties), "extra"),
        Key("commands", Kind.LIST, _typed(list[str], _commands), "commands"),
        Key("max_concurrent", Kind.NUMBER, _typed(Count | None), "max_concurrent"),
        Key("job_quota", Kind.NUMBER, _size(MIN_QUOTA), "limits.job_quota"),
        Key("keep_free", Kind.NUMBER, _typed(float | str, _part), "limits.keep_free"),
        Key(
            "durability",
            Kind.TEXT,
            _typed(Literal["process", "power"], wording=_DURABILITY),
            "limits.durability",
        ),
        Key("retain_days", Kind.NUMBER, _typed(Seconds, _days), "retention.seconds"),
        Key("retain_size", Kind.NUMBER, _size(0), "retention.size"),
        Key("retain_jobs", Kind.NUMBER, _typed(Number), "retention.jobs"),
        Key(
            "sample_interval",
            Kind.NUMBER,
            _typed(Seconds, _seconds),
            "sample_interval",
        ),
        Key("sample_size", Kind.NUMBER, _size(0), "sample_size"),
        Key("prometheus", Kind.YES, _typed(bool), "prometheus"),
        Key("reload", Kind.YES, _typed(bool), "reload"),
        Key("audit_size", Kind.NUMBER, _size(0), "audit_size"),
        Key("hub", Kind.TEXT, _typed(str), "hub"),
        Key("hub_token", Kind.TEXT, _typed(str, Secret), "hub_token"),
    )
}
