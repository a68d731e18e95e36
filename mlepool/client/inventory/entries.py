"""What one entry of hosts.toml may say of hosts: checked, and put together."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mlepool.client.links.trust import Target
from mlepool.errors import ConfigError
from mlepool.settings.properties import check_labels, looks_secret

__all__ = [
    "KEYS",
    "Entry",
    "Where",
    "check_entry",
    "check_shape",
    "fill_in",
    "put_together",
    "unknown_key",
]

MAX_SHOWN = 80  # characters of a wrong value
NO_SECRETS = "this file holds no secrets: name a file with token_file"

Entry = dict[str, Any]
Where = Callable[..., str]  # says where a key within the entry stands

_BRACES = re.compile(r"\{([^{}]*)\}")


def _text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("it is empty, or has characters that can't be printed")
    return value


def _address(value: str) -> str:
    if value.startswith("mle:"):
        raise ValueError(f"give 'mlepool trust' this URL: {NO_SECRETS}")
    return _text(value)


def _path(value: str) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError as exc:
        raise ValueError(str(exc)) from None


def _labels(values: dict[str, str]) -> dict[str, str]:
    check_labels(values)
    return values


_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, lt=1e6)]

# Of each key what it is, and what is seen to besides.
KEYS: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
    "address": (str, _address),
    "port": (_Port, int),
    "labels": (dict[str, str], _labels),
    "proxy": (str, _text),
    "connect_timeout": (_Seconds, float),
    "token_file": (str, _path),
}


def check_entry(
    table: Mapping[str, Any], where: Where, *, folder: Path, besides: Collection[str]
) -> Entry:
    """Check what an entry says, but for the keys ``besides``.

    Args:
        table: The entry.
        where: Says where a key of it stands.
        folder: What a relative ``token_file`` counts from.
        besides: Keys that there are, too, and that somebody else reads.

    Raises:
        ConfigError: If a key is unknown, or its value wrong: says where.
    """
    entry: Entry = {}
    for key, value in table.items():
        if key in KEYS:
            entry[key] = _check(key, value, where)
        elif key not in besides:
            raise unknown_key(key, [*KEYS, *besides], where)
    if "token_file" in entry:
        entry["token_file"] = folder / entry["token_file"]
    return entry


def check_shape(value: Any, kind: Any, where: Where) -> Any:
    """See that a value is of a kind.

    Raises:
        ConfigError: If not: says where.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        text = (
            str(exc).partition(" - at ")[0].replace("`", "").replace("object", "table")
        )
        raise ConfigError(f"{where()}: {text[:1].lower()}{text[1:]}") from None


def put_together(layers: Iterable[Entry]) -> Entry:
    """Put entries together, the later above the earlier; labels one by one."""
    whole: Entry = {}
    for layer in layers:
        labels = {**whole.get("labels", {}), **layer.get("labels", {})}
        whole = {**whole, **layer, "labels": labels}
    return whole


def fill_in(address: str, name: str, numbers: tuple[str, ...]) -> str:
    """Put a host's name and the numbers of its ranges where an address has braces.

    Raises:
        ConfigError: If there is something else in braces, or the address is none.
    """
    fill = functools.partial(_filled, name=name, left=iter(numbers))
    filled = _BRACES.sub(fill, address)
    Target.parse(filled)
    return filled


def unknown_key(key: str, known: Collection[str], where: Where) -> ConfigError:
    """Make the error for a key that there is not; it names the nearest."""
    shown = key[:MAX_SHOWN]
    if re.search("token|password|secret", key, re.IGNORECASE):
        text = NO_SECRETS
    else:
        text = f"did you mean {difflib.get_close_matches(shown, known, 1, 0)[0]!r}?"
    return ConfigError(f"{where(key)}: there is no key {shown!r}; {text}")


def _filled(match: re.Match[str], *, name: str, left: Any) -> str:
    if match[1] == "name":
        return name
    if match[1] not in ("", ":d"):
        text = "use {name}, {} or {:d}, the same without zeros in front"
        raise ConfigError(f"there is {match[0]} in its address: {text}")
    number: str | None = next(left, None)
    if number is None:
        raise ConfigError("its address has more {} than its name has ranges")
    return number if match[1] == "" else str(int(number))


def _check(key: str, value: Any, where: Where) -> Any:
    kind, check = KEYS[key]
    if key == "labels" and isinstance(value, dict):
        for label, one in value.items():
            _check_label(label, one, where)
    value = check_shape(value, kind, functools.partial(_at_key, where, key))
    try:
        return check(value)
    except ValueError as exc:
        raise ConfigError(f"{where(key)}: {key}: {exc}") from None


def _check_label(label: str, value: Any, where: Where) -> None:
    """Blame the label itself; its value may be a secret, and is not shown."""
    try:
        if looks_secret(label):
            raise ValueError(f"it looks like a secret; {NO_SECRETS}")
        check_labels({label: value})
    except ValueError as exc:
        text = str(exc).removeprefix(f"{label}: ")
        place = where("labels", label)
        raise ConfigError(f"{place}: labels.{label[:MAX_SHOWN]}: {text}") from None


def _at_key(where: Where, key: str) -> str:
    return f"{where(key)}: {key}"
