"""The parent's handle on one contender's process: turns with a time limit each."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .processes import END_LIMIT, MARK, sweep

ROOT = Path(__file__).parents[1]  # where `python -m benchmarks` finds this package
CLOSE_LIMIT = 8.0  # seconds for a contender to disconnect and end its servers


class TurnError(Exception):
    """A turn gave no samples.

    Attributes:
        reason: Why, in a few words, for a cell of the table.
        detail: Why, in a line; may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def source_times() -> dict[str, int]:
    """Return when each of mlepool's source files was changed, in nanoseconds.

    Each contender imports it anew, so a run during which it changes mixes versions.
    """
    files = (ROOT / "mlepool").rglob("*.py")
    return {str(path): path.stat().st_mtime_ns for path in files}


def _environment(folder: Path) -> dict[str, str]:
    """Mark what is started, and let all of it import the same mlepool as we do.

    A daemon starts in another folder than ours, and mlepool need not be installed.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {MARK: str(folder), "PYTHONPATH": os.pathsep.join(paths)}


class Session:
    """One contender, opened. `close` it, whatever happens.

    Attributes:
        version: What is measured, with its version; empty until `open`.
        usable: Whether another turn may follow.
    """

    def __init__(self, name: str, folder: Path, data: Path) -> None:
        self.version = ""
        self.usable = True
        self._folder = folder
        self._buffer = b""
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.child", name]
        with (folder / "log").open("wb") as log:
            # A group of its own, so that nothing of it outlives `close`.
            self._process = subprocess.Popen(
                [*command, str(folder), str(data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=_environment(folder),
                process_group=0,
            )

    def open(self, *, timeout: float) -> None:
        """Wait until the contender is connected, `timeout` seconds at most.

        Raises:
            TurnError: If it cannot, or not in time.
        """
        self.version = self._receive(timeout)["version"]

    def measure(self, turn: dict[str, Any], *, timeout: float) -> list[float]:
        """Do one turn, in `timeout` seconds at most, and return its samples.

        Raises:
            TurnError: If it failed, or took too long; see `usable`.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer will say why
            self._process.stdin.write(json.dumps(turn).encode() + b"\n")
            self._process.stdin.flush()
        samples: list[float] = self._receive(timeout)["samples"]
        return samples

    def close(self) -> None:
        """End the contender and all that it started, and remove its folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._wait_or_signal()
        self._process.stdout.close()
        sweep(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_or_signal(self) -> None:
        for number, limit in (
            (signal.SIGTERM, CLOSE_LIMIT),
            (signal.SIGKILL, END_LIMIT),
        ):
            try:
                self._process.wait(limit)
            except subprocess.TimeoutExpired:
                self._signal(number)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _receive(self, timeout: float) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._read_line(timeout))
        if "error" in answer:
            detail = answer.get("detail", "")
            if "look" in answer:
                detail += f"; the log ends with: {self._last_words()}"
            raise TurnError(answer["error"], detail)
        return answer

    def _read_line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([output], [], [], left)[0]:
                self.usable = False
                self._signal(signal.SIGTERM)
                raise TurnError("too slow", f"no answer within {timeout:.0f} s")
            data = os.read(output, 65536)
            if not data:
                self.usable = False
                raise TurnError("crashed", self._last_words())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""
