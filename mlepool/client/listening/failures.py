"""Remote exceptions become local ones: data in, a safe built-in type out."""

import builtins
import functools
from typing import Any

from mlepool.errors import PermissionDeniedError, RemoteError, WorkerBusyError
from mlepool.wire.messages import Failure

__all__ = ["remote_error"]

# Types that an `except` clause may mean, and that are made of nothing but a message.
# Never SystemExit, KeyboardInterrupt, StopIteration: a worker must not steer us.
_SAFE_TYPES: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(
        kind,
        StopIteration
        | StopAsyncIteration
        | UnicodeError
        | Warning
        | ImportError
        | SyntaxError
        | BaseExceptionGroup,
    )
    and kind is not Exception
}

# Our own that say why a worker has not done what it was asked for.
_OWN_TYPES = {one.__name__: one for one in (PermissionDeniedError, WorkerBusyError)}


@functools.cache
def _combined(name: str) -> type[RemoteError]:
    if name in _OWN_TYPES:
        return _OWN_TYPES[name]
    kind = _SAFE_TYPES.get(name)
    if kind is None:
        return RemoteError
    members = {"__module__": "mlepool.errors", "__reduce__": _reduce}
    return type(f"Remote{name}", (RemoteError, kind), members)


def _reduce(error: RemoteError) -> tuple[Any, ...]:
    """Have a type that is made here be made again where the error is unpickled."""
    _, (_, args), facts = RemoteError.__reduce__(error)
    return _revive, (error.type_name, args), facts


def _revive(type_name: str, args: tuple[Any, ...]) -> RemoteError:
    return _combined(type_name)(*args)


def remote_error(failure: Failure, host: str) -> RemoteError:
    """Make an exception of what a worker reports.

    Returns:
        A :exc:`RemoteError` that is also of the named built-in type, where that is
        safe; with ``errno`` and ``filename`` for an OSError.
    """
    kind = _combined(failure.type_name)
    number = failure.errno
    by_number = issubclass(kind, OSError) and number is not None
    error = kind(number, failure.message) if by_number else kind(failure.message)
    if isinstance(error, OSError):
        error.filename = failure.filename
    error.host = host
    error.type_name = failure.type_name
    error.message = _sentence(failure)
    error.traceback = failure.traceback
    return error


def _sentence(failure: Failure) -> str:
    if failure.filename is not None:
        return f"{failure.message}: {failure.filename!r}"
    return failure.message
