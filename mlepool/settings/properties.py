"""What a worker may tell of itself: bounded, named well, and never a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

__all__ = [
    "MAX_PROPERTIES",
    "OWN_KEYS",
    "check_labels",
    "check_name",
    "check_properties",
    "check_secrets",
    "looks_secret",
]

MAX_PROPERTIES = 64 * 1024  # bytes, as JSON: the state goes into a worker's first frame
MAX_NAME = 200  # characters
MAX_KEY = 200  # characters
MAX_DEPTH = 16  # of tables in tables

# What the worker says itself: no property of the user's may stand in its place.
OWN_KEYS = frozenset(
    {
        *("arch", "boot_time", "capabilities", "catalogue", "config_error", "cpu"),
        *("connection", "disk", "distribution", "gpu", "hostname", "id"),
        *("interpreter", "kernel"),
        *(
            "labels",
            "load_errors",
            "memory",
            "name",
            "os",
            "pid",
            "python",
            "queue",
            "run_status",
        ),
        *("slots", "sync_status", "version"),
    }
)

# Of a name without its case and its signs: "accessToken" and "ACCESS_TOKEN" are alike.
_SECRET = re.compile(
    r"password|passwd|passphrase|passcode|secret|credential|authorization|jwt|bearer"
    r"|(access|api|private|signing|encryption|ssh)key|token$|^tokens$|cookie"
)
# Of a name's words: "hf_token_file" is about a token, "tokenizer" is not.
_SECRET_WORDS = frozenset({"token", "pwd"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def looks_secret(key: str) -> bool:
    """Tell if what goes by this name is a secret: a token, a password, a key.

    Case and signs don't count: ``accessToken``, ``ACCESS_TOKEN``, ``access-token``.
    """
    plain = re.sub(r"[\W_]", "", key).lower()
    words = {word.lower() for word in _WORD.findall(key)}
    return bool(_SECRET.search(plain) or words & _SECRET_WORDS)


def check_secrets(values: Mapping[str, Any]) -> None:
    """See that nothing in values, however deep, looks like a secret by its name.

    Raises:
        ValueError: If something does; names it.
    """
    for path in _paths(values, depth=0):
        if looks_secret(path.rpartition(".")[2]):
            text = "it looks like a secret, and what is in the state every client sees"
            raise ValueError(f"{path}: {text}")


def check_properties(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check properties of the user's own: they become part of the worker's state.

    Returns:
        The same as plain values: numbers, text, lists and tables; times as text.

    Raises:
        ValueError: If one looks like a secret, has a name of the worker's own or a bad
            one, or is no plain value, or all are more than 64 KiB.
    """
    for key in values:
        if key in OWN_KEYS:
            raise ValueError(f"{key}: the worker itself says that")
        _check_key(key)
    check_secrets(values)
    return _plain(values)


def check_labels(labels: Mapping[str, str]) -> None:
    """Check a worker's labels.

    Raises:
        ValueError: If one looks like a secret or has a bad name, or all are more than
            64 KiB.
    """
    for key, value in labels.items():
        _check_key(key)
        if not isinstance(value, str):
            raise ValueError(f"{key}: a label is text, not {type(value).__name__}")
    check_secrets(labels)
    _plain(labels)


def check_name(name: str) -> None:
    """Check what a worker calls itself.

    Raises:
        ValueError: If it is empty, too long, or has characters that can't be printed.
    """
    if not (0 < len(name) <= MAX_NAME and name.isprintable() and name.strip() == name):
        text = f"a name has 1 to {MAX_NAME} characters that can be printed"
        raise ValueError(f"{name[:80]!r}: {text}")


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise ValueError(f"{str(key)[:80]!r}: that is no name for a property")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make values into what JSON can hold, and so files and frames, too."""
    try:
        text = msgspec.json.encode(values)
        plain: dict[str, Any] = msgspec.json.decode(text)
        msgspec.msgpack.encode(plain)  # it takes no number over 64 bits
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ValueError(f"it can't be sent: {exc}") from exc
    if len(text) > MAX_PROPERTIES:
        raise ValueError(f"{len(text)} bytes are over the limit of {MAX_PROPERTIES}")
    return plain


def _paths(value: Any, *, depth: int) -> Iterator[str]:
    """Give the names of all that is in a value, with dots between tables."""
    if depth > MAX_DEPTH:
        raise ValueError(f"tables are nested over {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from (f"{key}.{path}" for path in _paths(inner, depth=depth + 1))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner, depth=depth + 1)
