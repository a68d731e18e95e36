"""A process that calls functions, one after another, and what is said to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["CallingProcess"]

SCRIPT = Path(__file__).with_name("script.py")
LINE_LIMIT = 64 * 1024  # bytes; what is longer comes in parts
READ = 256 * 1024  # bytes in one read
LOOK_PAUSE = 0.05  # seconds between two looks if the call is to stop
LENGTH = struct.Struct(">Q")


class CallingProcess:
    """One process of the interpreter that runs the worker, in a session of its own.

    It has a pipe for calls and one for answers, so that what a function prints, or
    reads, is apart from both. Its methods block, and are for one thread at a time.

    Raises:
        OSError: If it can't be started.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(16).encode()  # printed once a function has ended
        with contextlib.ExitStack() as stack:
            ends = [*os.pipe(), *os.pipe()]
            files = [
                os.fdopen(end, "wb" if at % 2 else "rb", 0)
                for at, end in enumerate(ends)
            ]
            calls, self._calls, self._answers, answers = files
            stack.enter_context(calls)
            stack.enter_context(answers)
            stack.push(self._close_on_error)
            names = [str(calls.fileno()), str(answers.fileno()), self._mark.decode()]
            # -P: this package's folder has modules of the names of others' ones.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(SCRIPT), *names],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(calls.fileno(), answers.fileno()),
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdout is not None
        self._output: BinaryIO = self._process.stdout  # type: ignore[assignment]

    def ask(
        self,
        cwd: bytes,
        call: bytes,
        *,
        log: Callable[[object], None],
        is_stopped: Callable[[], bool],
    ) -> bytes | None:
        """Have it call something; gives its pickled answer.

        Args:
            cwd: The folder to be in.
            call: The pickled call.
            log: Is told of each line that it prints meanwhile.
            is_stopped: Tells if the answer is not wanted any more.

        Returns:
            None if it was stopped; the process is of no use then.

        Raises:
            ChildProcessError: If it ends instead.
        """
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells it
            for part in (cwd, call):
                _write(self._calls, LENGTH.pack(len(part)) + part)
        exchange = _Exchange(self._mark, log)
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ, exchange.add_answer)
            selector.register(self._output, selectors.EVENT_READ, exchange.add_output)
            while not exchange.is_over:
                for key, _ in selector.select(LOOK_PAUSE):
                    data = os.read(key.fd, READ)
                    if not data:
                        selector.unregister(key.fileobj)
                    key.data(data)
                if is_stopped():
                    return None
        if exchange.answer is None:
            self.kill()
            how = self._process.returncode
            what = f"signal {-how}" if how < 0 else f"status {how}"
            raise ChildProcessError(
                f"the process that called the function ended with {what}"
            )
        return exchange.answer

    def kill(self) -> None:
        """End it, and what it has started in its session. Twice is fine."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for file in (self._calls, self._answers, self._output):
            file.close()

    def _close_on_error(self, *found: object) -> None:
        if found[0] is not None:
            self._calls.close()
            self._answers.close()


class _Exchange:
    """One call's answer, and what is printed meanwhile, as they come.

    Attributes:
        answer: All of it; None before, or if there is none.
        is_over: True once nothing more is to come of this call.
    """

    def __init__(self, mark: bytes, log: Callable[[object], None]) -> None:
        self.answer: bytes | None = None
        self._mark = mark
        self._log = log
        self._received = bytearray()
        self._printed = b""
        self._is_marked = False
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        return self._has_ended or (self._is_marked and self.answer is not None)

    def add_answer(self, data: bytes) -> None:
        self._has_ended = not data
        self._received += data
        if len(self._received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received)
            if len(self._received) == LENGTH.size + size:
                self.answer = bytes(self._received[LENGTH.size :])

    def add_output(self, data: bytes) -> None:
        *lines, self._printed = (self._printed + data).split(b"\n")
        if len(self._printed) > LINE_LIMIT or not data:
            lines.append(self._printed)
            self._printed = b""
        for line in lines:
            if line.endswith(self._mark):
                self._is_marked = True
                line = line.removesuffix(self._mark)  # a last line without an end
                if not line:
                    continue
            self._log(line.decode("utf-8", "replace"))


def _write(file: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file.fileno(), left) :]
