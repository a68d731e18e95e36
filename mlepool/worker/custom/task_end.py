"""How a command inside the worker ended, as data that can be kept and sent."""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from mlepool.wire.codec import NOT_ENCODABLE, encode_other
from mlepool.wire.messages import Failure, Outcome

__all__ = ["describe_failure", "make_outcome"]

MAX_VALUE = 768 * 1024  # bytes, packed: an outcome goes into one frame of 1 MiB
MAX_TEXT = 64 * 1024  # characters of an exception's text, and of its traceback
OUR_FOLDER = Path(__file__).parents[1]

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_other)
_BY_STOPS = (asyncio.CancelledError, GeneratorExit)


def make_outcome(
    value: Any,
    error: BaseException | None,
    *,
    command: str,
    started: float,
    stopped_as: str = "",
    reason: str = "",
) -> Outcome:
    """Make the outcome of a command.

    Args:
        value: What it returned.
        error: What it raised; None if it returned.
        command: Its name.
        started: When, in seconds since the epoch.
        stopped_as: The status, if it was stopped.
        reason: Who or what stopped it.
    """
    failure = None
    if error is None:
        try:
            value = _as_data(command, value)
        except TypeError as exc:
            value, error = None, exc
    if error is not None and not (stopped_as and isinstance(error, _BY_STOPS)):
        failure = describe_failure(error)
    return Outcome(
        stopped_as or ("FAILED" if failure is not None else "SUCCEEDED"),
        value=value,
        failure=failure,
        started=started,
        ended=time.time(),
        reason=reason,
    )


def describe_failure(error: BaseException) -> Failure:
    """Make data of an exception, whatever it is; our own frames are left out."""
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    try:
        message = str(getattr(error, "strerror", None) or error)
        lines = traceback.format_exception(type(error), error, _theirs(error))
        text = "".join(lines)
    except Exception as exc:
        # A __str__ of theirs: what it raises is no news.
        message, text = f"(its text can't be had: {type(exc).__name__})", ""
    return Failure(
        type(error).__name__,
        _clean(message[:MAX_TEXT]),
        _clean(text[-MAX_TEXT:]),
        number if isinstance(number, int) and abs(number) < 1 << 31 else None,
        _clean(str(name)) if isinstance(name, str | Path) else None,
    )


def _as_data(command: str, value: Any) -> Any:
    """Make plain data of a value: that is what all who ask get.

    Raises:
        TypeError: If that can't be done, or is too much.
    """
    if value is None:
        return None
    try:
        packed = _encoder.encode(value)
        plain = msgspec.msgpack.decode(packed)
    except (*NOT_ENCODABLE, msgspec.DecodeError) as exc:
        raise TypeError(f"{command}(): what it returned can't be sent: {exc}") from None
    if len(packed) > MAX_VALUE:
        raise TypeError(
            f"{command}(): what it returned is {len(packed)} bytes, over {MAX_VALUE}: "
            "yield it in parts, or write a file"
        )
    return plain


def _theirs(error: BaseException) -> TracebackType | None:
    """Give the traceback from where our own frames end."""
    found = error.__traceback__
    while found is not None and _is_ours(found):
        found = found.tb_next
    return found


def _is_ours(frame: TracebackType) -> bool:
    return OUR_FOLDER in Path(frame.tb_frame.f_code.co_filename).parents


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
