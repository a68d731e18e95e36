"""conplyent: one zmq pair socket, pickles, two threads that poll without a pause."""

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from .contender import Contender, delay, expect, rate, settled, timed
from .cuts import Trial, fault_proxy
from .processes import END_LIMIT, end, free_port, wait_for_port
from .work import Work

# The stock server listens on all interfaces and unpickles what anybody sends. Only its
# bind() is replaced, so that it listens on the loopback interface.
SERVER = """\
import sys
from conplyent import server
class Loopback(server.ZMQPair):
    def bind(self):
        self.socket.bind("tcp://127.0.0.1:%d" % self.port)
        self._connected = True
server.ZMQPair = Loopback
server.start(int(sys.argv[1]))
"""
CONNECT_LIMIT = 10  # seconds
PATIENCE = 5  # seconds without a line; without such a limit it would wait for ever


class Conplyent(Contender):
    """One server process, one connection, one thread of ours."""

    # It carries a few thousand lines a second, and nothing but lines.
    shares: ClassVar[Mapping[str, float]] = {
        "at_once": 0.5,
        "read_bytes": 0.0005,
        "read_lines": 0.0025,
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._conn: Any = None

    def open(self) -> None:
        """Start the server and connect."""
        client = importlib.import_module("conplyent").client
        command = [sys.executable, "-c", SERVER, str(self._port)]
        self._server = subprocess.Popen(command)
        wait_for_port(self._port, self._server)
        self._conn = client.add("localhost", self._port)
        self._conn.connect(CONNECT_LIMIT)

    def close(self) -> None:
        """Close the server by its own command, and end it if that was not enough."""
        if self._conn is not None:
            self._conn.close_server(max_interval=int(END_LIMIT))
            self._conn.close()
            self._conn = None
        if self._server is not None:
            end(self._server)
            self._server = None

    def version(self) -> str:
        """Return conplyent's version."""
        return f"conplyent {importlib.metadata.version('conplyent')}"

    def run(self, work: Work) -> list[float]:
        """Run `true`: seconds each."""
        return timed(lambda: self._conn.exec(["true"]), work.spawns)

    def at_once(self, work: Work) -> list[float]:
        """Run `true` in waves that are under way at once: commands a second."""

        def run_all() -> int:
            done = 0
            while done < work.commands:
                done += self._wave(min(work.lanes, work.commands - done))
            return done

        return rate(run_all, work.commands)

    def ping_blocking(self, work: Work) -> list[float]:
        """Ask for the working directory: seconds each."""
        return timed(self._conn.cwd, work.pings)

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Listen to lines of 128 bytes: bytes a second."""
        argv = work.cat(path)
        return rate(lambda: sum(map(len, self._listen(argv))), work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Listen to short lines: lines a second."""
        argv = work.seq()
        return rate(lambda: sum(1 for _ in self._listen(argv)), work.lines)

    def latency(self, work: Work) -> list[float]:
        """Listen to stamped lines: seconds."""
        return settled([delay(line) for line in self._listen(work.stamper())], work)

    def reconnect(self, work: Work) -> list[float]:
        """Listen through a connection of its own: the server takes one at a time."""
        self._conn.disconnect()
        with fault_proxy(self._port) as proxy:
            client = importlib.import_module("conplyent").client
            conn = client.add("127.0.0.1", proxy.port)
            conn.connect(CONNECT_LIMIT)
            trial = Trial(self.folder, work, proxy.reset)
            listener = conn.exec(trial.argv, complete=False, max_interval=PATIENCE)
            listener.next()  # the echo of the command comes first
            try:
                for line in iter(listener.next, None):
                    trial.take(line)
                how = "the listener ends"
            except Exception as exc:  # whatever it is: it is shown in the table
                how = f"{type(exc).__name__}, as asked for: {exc}; else it waits on"
            conn.close()
        self._conn.connect(CONNECT_LIMIT)
        return trial.outcome(how)

    def _listen(self, argv: list[str]) -> Iterator[str]:
        listener = self._conn.exec(argv, complete=False)
        listener.next()  # the echo of the command comes first
        yield from iter(listener.next, None)
        expect(listener.exit_code, 0)

    def _wave(self, count: int) -> int:
        listeners = [self._conn.exec(["true"], complete=False) for _ in range(count)]
        for listener in listeners:
            listener.clear_messages()
            expect(listener.exit_code, 0)
        return count
