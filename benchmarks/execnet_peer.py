"""execnet: a Python interpreter at the far end of a pipe, told what to do there.

The gateway is local and speaks over pipes: no network, no authentication, no TLS.
"""

import importlib
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from .contender import Contender, delay, expect, rate, settled, timed
from .work import Work

PATIENCE = 120.0  # seconds for one answer; a turn is given up before


# The three functions below run in the other interpreter. execnet sends their source
# text, so each imports for itself, and its annotations are strings.
def _serve_commands(channel: "Any") -> None:
    import subprocess

    for argv in channel:
        done = subprocess.run(argv, capture_output=True)
        channel.send((done.returncode, done.stdout, done.stderr))


def _echo(channel: "Any") -> None:
    for item in channel:
        channel.send(item)


def _stream(channel: "Any") -> None:
    import os
    import subprocess

    argv, text = channel.receive()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=text) as process:
        assert process.stdout is not None
        if text:
            for line in process.stdout:
                channel.send(line)
        else:
            while data := os.read(process.stdout.fileno(), 65536):
                channel.send(data)


class Execnet(Contender):
    """One local gateway, with a function of ours that runs subprocesses."""

    shares: ClassVar[Mapping[str, float]] = {"read_lines": 0.05}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._group: Any = None
        self._gateway: Any = None

    def open(self) -> None:
        """Start the other interpreter."""
        execnet = importlib.import_module("execnet")
        self._group = execnet.Group()
        self._gateway = self._group.makegateway(f"popen//python={sys.executable}")

    def close(self) -> None:
        """End the other interpreter."""
        if self._group is not None:
            self._group.terminate(timeout=2)
            self._group = None

    def version(self) -> str:
        """Return execnet's version."""
        return f"execnet {importlib.import_module('execnet').__version__}"

    def run(self, work: Work) -> list[float]:
        """Run `true` through one channel: seconds each."""
        channel = self._gateway.remote_exec(_serve_commands)
        samples = timed(lambda: _run_true(channel), work.spawns)
        channel.close()
        return samples

    def at_once(self, work: Work) -> list[float]:
        """Run `true` through many channels: commands a second."""
        remote = self._gateway.remote_exec
        channels = [remote(_serve_commands) for _ in range(work.lanes)]
        each = work.commands // work.lanes

        def lane(channel: Any) -> int:
            for _ in range(each):
                _run_true(channel)
            return each

        with ThreadPoolExecutor(work.lanes) as threads:
            list(threads.map(_run_true, channels))  # all threads exist at both ends
            samples = rate(lambda: sum(threads.map(lane, channels)), each * work.lanes)
        for channel in channels:
            channel.close()
        return samples

    def ping_blocking(self, work: Work) -> list[float]:
        """Send one item through a channel and receive it again: seconds each."""
        channel = self._gateway.remote_exec(_echo)

        def ping() -> None:
            channel.send(0)
            channel.receive(PATIENCE)

        samples = timed(ping, work.pings)
        channel.close()
        return samples

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Receive 64 KiB pieces: bytes a second."""
        argv = work.cat(path)
        return rate(lambda: sum(map(len, self._stream(argv, text=False))), work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Receive one line at a time: lines a second."""
        argv = work.seq()
        return rate(lambda: sum(1 for _ in self._stream(argv, text=True)), work.lines)

    def latency(self, work: Work) -> list[float]:
        """Receive one line at a time: seconds."""
        stream = self._stream(work.stamper(), text=True)
        return settled([delay(line) for line in stream], work)

    def _stream(self, argv: list[str], *, text: bool) -> Any:
        channel = self._gateway.remote_exec(_stream)
        channel.send((argv, text))
        return channel


def _run_true(channel: Any) -> None:
    channel.send(["true"])
    status, _, _ = channel.receive(PATIENCE)
    expect(status, 0)
