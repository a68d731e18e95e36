"""The script of a process that calls functions. It imports nothing of this package.

Arguments: the descriptors to read calls from and to write answers to, and the mark to
print after each. A call is a folder and a pickle, an answer a pickle: ``(True, value)``
or ``(False, exception)``. Each stands behind its length in 8 bytes, big-endian.
"""

import os
import struct
import sys
import traceback
from typing import Any, BinaryIO

import cloudpickle

__all__ = ["main"]

LENGTH = struct.Struct(">Q")


def main() -> None:
    """Answer calls until there are no more."""
    calls, answers = (
        os.fdopen(int(sys.argv[1]), "rb"),
        os.fdopen(int(sys.argv[2]), "wb"),
    )
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    while (cwd := read(calls)) is not None and (call := read(calls)) is not None:
        answer = pickled(answer_to(cwd, call))
        sys.stderr.flush()
        sys.stdout.write(f"{sys.argv[3]}\n")
        sys.stdout.flush()
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def read(stream: BinaryIO) -> bytes | None:
    """Read one part of a call; None at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    data = stream.read(size)
    return data if len(data) == size else None


def answer_to(cwd: bytes, call: bytes) -> tuple[bool, Any]:
    """Call, and give what comes of it."""
    try:
        os.chdir(cwd)
        function, args, keywords = cloudpickle.loads(call)
        return True, function(*args, **keywords)
    except BaseException as exc:
        # Whatever it is, SystemExit too: it is the caller's. Its frames stay here.
        text = "".join(traceback.format_exception(exc))
        exc.__traceback__ = None
        exc.add_note(f"in a process of the worker:\n{text}")
        return False, exc


def pickled(answer: tuple[bool, Any]) -> bytes:
    """Write an answer as a pickle, or why that is not possible."""
    try:
        data: bytes = cloudpickle.dumps(answer)
        if not answer[0]:
            cloudpickle.loads(data)  # some exceptions can be written, but not read
    except Exception as exc:
        what = "what it returned" if answer[0] else f"what it raised, {answer[1]!r},"
        data = cloudpickle.dumps((False, TypeError(f"{what} can't be pickled: {exc}")))
    return data


if __name__ == "__main__":
    main()
