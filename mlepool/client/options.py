"""What every call accepts on the client's side, checked at this border."""

from __future__ import annotations

import codecs
import enum
import inspect
import os
from collections.abc import Iterable
from typing import Any

import msgspec

from mlepool.client.checks import check_seconds
from mlepool.client.listening.sources import open_source

__all__ = [
    "CLIENT_PARAMETERS",
    "OF_EVERY_CALL",
    "CallOptions",
    "Kind",
    "option_docs",
    "split_options",
]

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
            synced, or else the current folder. Of a group's call each host gets a
            folder of its name there, or where ``{host}`` stands.
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


class Kind(enum.Enum):
    """What kind of command it is: which options make sense for it.

    A VALUE is asked for and given. A JOB inside the worker has messages and can be
    stopped. A PROCESS has output, too, and files.
    """

    VALUE = "value"
    JOB = "job"
    PROCESS = "process"


OF_EVERY_CALL = ("complete", "timeout", "echo_response", "max_interval", "raise_error")
_OF_JOBS = (*OF_EVERY_CALL, "on_timeout", "detach", "input", "memory")
_BY_KIND = {
    Kind.VALUE: OF_EVERY_CALL,
    Kind.JOB: _OF_JOBS,
    Kind.PROCESS: (
        *OF_EVERY_CALL,
        *("on_timeout", "encoding", "errors", "detach", "input", "memory"),
        *("sync", "collect_to"),
    ),
}

# A line each, for help().
_DOCS = {
    "complete": "Wait for the end (True), or return once the worker has accepted.",
    "timeout": "Seconds for the whole command; it is stopped then.",
    "echo_response": "Print what arrives, as it arrives.",
    "max_interval": "Longest silence between two messages, in seconds.",
    "raise_error": "Raise what failed; else it is the listener's ``error``.",
    "on_timeout": '``"stop"``, or ``"detach"`` to leave it running.',
    "encoding": "How output becomes text; None gives bytes.",
    "errors": "What to do with bytes that are not text, as in bytes.decode().",
    "detach": "Do not stop it with the connection's close().",
    "input": "What it reads: str, bytes, a Path, an open file or an iterator.",
    "memory": "Bytes of output to hold here; 16 MiB by default.",
    "sync": "A folder to sync first, and to run in.",
    "collect_to": "Where what ``collect`` names is brought to.",
}


def _parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    defaults = {
        field.name: field.default for field in msgspec.structs.fields(CallOptions)
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(one, kind, default=defaults[one]) for one in names]


CLIENT_PARAMETERS = {kind: _parameters(names) for kind, names in _BY_KIND.items()}
_NAMES = {kind: frozenset(names) for kind, names in _BY_KIND.items()}
_NO_OPTIONS = CallOptions()


def option_docs(names: Iterable[str], *, kind: Kind) -> str:
    """Describe options as a section of a command's docs."""
    given = {
        Kind.VALUE: "what is returned is its ``value``",
        Kind.JOB: "its messages are what is yielded, ``value`` what is returned",
        Kind.PROCESS: "its messages are lines of output",
    }
    lines = [f"    {name}: {_DOCS[name]}" for name in names]
    head = f"A call gives a Listener: {given[kind]}."
    return "\n".join([head, "These keywords are for it:", *lines])


def split_options(
    arguments: dict[str, Any], *, kind: Kind
) -> tuple[CallOptions, dict[str, Any]]:
    """Part a call's arguments into the client's and the command's.

    Args:
        arguments: By name.
        kind: Which options there are.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has an impossible value.
        LookupError: If there is no such encoding.
    """
    if not arguments:
        return _NO_OPTIONS, {}
    names = _NAMES[kind]
    own = {name: value for name, value in arguments.items() if name in names}
    rest = {name: value for name, value in arguments.items() if name not in names}
    try:
        options = msgspec.convert(own, CallOptions)
    except msgspec.ValidationError as exc:
        raise TypeError(_in_words(exc)) from None
    for name in ("timeout", "max_interval"):
        check_seconds(name, own.get(name))
    if options.on_timeout not in ("stop", "detach"):
        raise ValueError(
            f"on_timeout is 'stop' or 'detach', not {options.on_timeout!r}"
        )
    if options.encoding is not None:
        "".encode(options.encoding)  # a LookupError also for rot13: that is no text
    codecs.lookup_error(options.errors)
    _check_files(options)
    if options.memory < 0:
        raise ValueError("memory must be a number of bytes")
    return options, rest


def _check_files(options: CallOptions) -> None:
    """See if what is read here can be, and if what is written to is a path.

    Raises:
        TypeError: If it is not.
    """
    if options.input is not None:
        open_source(options.input)
    if not isinstance(options.collect_to, str | os.PathLike | None):
        kind = type(options.collect_to).__name__
        raise TypeError(f"collect_to must be a path, not {kind}")


def _in_words(exc: msgspec.ValidationError) -> str:
    said = str(exc).replace("| null`", "| None`").replace("`null`", "`None`")
    text, _, place = said.partition(" - at ")
    name = place.strip("`").removeprefix("$.")
    return f"{name}: {text[:1].lower()}{text[1:]}".replace("`", "")
