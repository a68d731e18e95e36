"""A real supervisor process, and a worker's side of its socket made by hand."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mlepool.errors import WorkerError
from mlepool.supervisor.journal import Journal
from mlepool.supervisor.messages import (
    JOBS_FOLDER,
    READY,
    SOCKET_FILE,
    Greet,
    Greeting,
    JobEnded,
    Spawn,
    decode_from_supervisor,
    encode,
)
from mlepool.wire.messages import Outcome
from mlepool.wire.records import STREAM_NAMES, Record, RecordParser
from tests.conftest import children_of, wait_until

MAIN = "import sys; from mlepool.supervisor.main import main; main(sys.argv[1:])"
LIMIT = 20.0  # seconds for an answer, on a busy machine

T = TypeVar("T")


class Line:
    """A worker's connection to a supervisor."""

    def __init__(self, folder: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        # With settimeout() a connect(2) fails at once where many others wait.
        limit = struct.pack("@ll", int(LIMIT), 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        here = os.open(folder, os.O_RDONLY)  # the whole path may be too long
        try:
            self.sock.connect(f"/proc/self/fd/{here}/{SOCKET_FILE}")
        except OSError:
            self.sock.close()
            raise
        finally:
            os.close(here)
        self.sock.settimeout(LIMIT)
        self._file = self.sock.makefile("rb")
        self._others: list[Any] = []

    def send(self, *messages: Any) -> None:
        frames = [encode(one) for one in messages]
        self.send_raw(b"".join(struct.pack(">I", len(one)) + one for one in frames))

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> Any:
        """Take the next message.

        Raises:
            EOFError: If the supervisor has closed the connection.
        """
        header = self._file.read(4)
        if len(header) < 4:
            raise EOFError
        return decode_from_supervisor(self._file.read(struct.unpack(">I", header)[0]))

    def wait_for(self, kind: type[T], job_id: str | None = None) -> T:
        """Take the next message of a kind; others are kept for later."""
        for one in self._others:
            if _is(one, kind, job_id):
                self._others.remove(one)
                return one  # type: ignore[no-any-return]
        while not _is(message := self.receive(), kind, job_id):
            self._others.append(message)
        return message  # type: ignore[no-any-return]

    def greet(self) -> Greeting:
        self.send(Greet(environment={b"PATH": os.environb[b"PATH"]}))
        return self.wait_for(Greeting)

    def spawn(self, job_id: str, command: str, **wishes: Any) -> None:
        argv = (b"/bin/sh", b"-c", command.encode())
        self.send(Spawn(job_id, argv, command, wishes.pop("cwd", "/"), {}, **wishes))

    def outcome(self, job_id: str) -> Outcome:
        return self.wait_for(JobEnded, job_id).outcome

    def is_closed(self) -> bool:
        """Wait for the supervisor to close; what comes before is passed over."""
        try:
            while True:
                self.receive()
        except (EOFError, ConnectionResetError):
            return True

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def _is(message: Any, kind: type, job_id: str | None) -> bool:
    return isinstance(message, kind) and job_id in (None, getattr(message, "id", None))


class RunningSupervisor:
    """A real supervisor process in a folder of its own.

    Args:
        folder: The state folder.
        before: Python code that is run in the process before it begins.
    """

    def __init__(self, folder: Path, before: str = "") -> None:
        self.folder = folder
        self._lines: list[Line] = []
        folder.mkdir(exist_ok=True)
        self.log_path = folder.with_name(f"{folder.name}.log")  # its disk may be full
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{before}\n{MAIN}", str(folder)],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        with self.process.stdout as ready:
            said = ready.readline()
        if said != READY:
            self.end()
        assert said == READY, self.log_path.read_text()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def connect(self) -> Line:
        line = Line(self.folder)
        self._lines.append(line)
        return line

    def output(self, job_id: str) -> dict[str, bytes]:
        """Read what a job has written so far from its journal, by stream."""
        texts = {"stdout": b"", "stderr": b""}
        for one in self.records(job_id):
            texts[STREAM_NAMES[one.stream]] += one.data
        return texts

    def records(self, job_id: str) -> list[Record]:
        """Read a journal's records, those before a gap and those after it."""
        with contextlib.closing(self._journal(job_id)) as journal:
            parser, end = RecordParser(), journal.measure()
            records, position = [], 0
            while position < end:
                data = journal.read(position, end - position)
                position += len(data)
                records += parser.feed(data)
                after = journal.after_gap(position)
                if after != position:
                    parser.skip()
                assert data or after != position
                position = after
            return records

    def outcome(self, job_id: str) -> Outcome | None:
        """Read a job's end from its journal."""
        try:
            with contextlib.closing(self._journal(job_id)) as journal:
                return journal.outcome()
        except (LookupError, WorkerError):
            return None  # not there yet, or not whole

    def _journal(self, job_id: str) -> Journal:
        return Journal(self.folder / JOBS_FOLDER, job_id)

    def resident(self) -> int:
        """Give the memory that it holds, in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def children(self) -> list[int]:
        """Give the processes whose parent it is."""
        return children_of(self.process.pid)

    def end(self) -> None:
        """Kill it and what it runs."""
        for line in self._lines:
            line.close()
        running = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)


def wait_for_output(supervisor: RunningSupervisor, job_id: str, text: bytes) -> None:
    """Wait until a job has written this to stdout."""

    def has_come() -> bool:
        try:
            return supervisor.output(job_id)["stdout"] == text
        except (LookupError, WorkerError):
            return False  # its journal is not there yet, or not whole

    wait_until(has_come)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[RunningSupervisor]:
    """A supervisor that the test may harm."""
    running = RunningSupervisor(tmp_path / "state")
    yield running
    running.end()


@pytest.fixture
def line(supervisor: RunningSupervisor) -> Line:
    """A connection to the supervisor, greeted."""
    line = supervisor.connect()
    line.greet()
    return line
