"""What every call accepts on the client's side, checked at this border."""

from __future__ import annotations

import codecs
import inspect
from typing import Any

import msgspec

from mlepool.client.sources import open_source

__all__ = ["CLIENT_PARAMETERS", "CallOptions", "split_options"]

DEFAULT_MEMORY = 16 * 1024 * 1024  # bytes of output that a Listener holds


class CallOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the client's side of a call was asked for.

    Attributes:
        complete: Wait for the end; False returns once the worker has accepted.
        timeout: Seconds for the whole command.
        echo_response: Print what arrives, as it arrives.
        max_interval: Longest silence between two messages, seconds.
        raise_error: Raise what failed.
        on_timeout: ``"stop"`` the job at the deadline, or ``"detach"`` from it.
        encoding: How output becomes text; None gives bytes throughout.
        errors: What to do with bytes that are not text.
        detach: The job does not end with its connection's ``close()``.
        input: What the process reads on stdin: str, bytes, a Path, an open file, or
            an iterator (async, too) of str or bytes.
        memory: Bytes of output to hold, 512 KiB at least.
        sync: The folder to sync first, and to run in; or (source, destination), or
            the arguments of ``sync()`` as a dict.
        collect_to: Where what ``collect`` names is brought to; by default what was
            synced, or else the current folder.
    """

    complete: bool = True
    timeout: float | None = None
    echo_response: bool = False
    max_interval: float | None = None
    raise_error: bool = False
    on_timeout: str = "stop"
    encoding: str | None = "utf-8"
    errors: str = "replace"
    detach: bool = False
    input: Any = None
    memory: int = DEFAULT_MEMORY
    sync: Any = None
    collect_to: Any = None


# Those of any command, and those that only make sense where a process is started.
_EVERY = ("complete", "timeout", "echo_response", "max_interval", "raise_error")
_SPAWNING = (
    *("on_timeout", "encoding", "errors", "detach", "input", "memory"),
    *("sync", "collect_to"),
)


def _parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    defaults = {
        field.name: field.default for field in msgspec.structs.fields(CallOptions)
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(one, kind, default=defaults[one]) for one in names]


CLIENT_PARAMETERS = {False: _parameters(_EVERY), True: _parameters(_EVERY + _SPAWNING)}
_NAMES = {
    spawns: frozenset(one.name for one in parameters)
    for spawns, parameters in CLIENT_PARAMETERS.items()
}


def split_options(
    arguments: dict[str, Any], *, spawns: bool
) -> tuple[CallOptions, dict[str, Any]]:
    """Part a call's arguments into the client's and the command's.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has an impossible value.
        LookupError: If there is no such encoding.
    """
    names = _NAMES[spawns]
    own = {name: value for name, value in arguments.items() if name in names}
    rest = {name: value for name, value in arguments.items() if name not in names}
    try:
        options = msgspec.convert(own, CallOptions)
    except msgspec.ValidationError as exc:
        raise TypeError(_in_words(exc)) from None
    for name in ("timeout", "max_interval"):
        value = own.get(name)
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number of seconds, not {value}")
    if options.on_timeout not in ("stop", "detach"):
        raise ValueError(
            f"on_timeout is 'stop' or 'detach', not {options.on_timeout!r}"
        )
    if options.encoding is not None:
        codecs.lookup(options.encoding)
    codecs.lookup_error(options.errors)
    if options.input is not None:
        open_source(options.input)
    if options.memory < 0:
        raise ValueError("memory must be a number of bytes")
    return options, rest


def _in_words(exc: msgspec.ValidationError) -> str:
    text, _, place = str(exc).partition(" - at ")
    name = place.strip("`").removeprefix("$.")
    return f"{name}: {text[:1].lower()}{text[1:]}".replace("`", "")
