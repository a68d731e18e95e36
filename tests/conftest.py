"""Real workers for tests: processes of their own, in folders of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import mlepool
from mlepool.client.links.trust import WORKERS_FOLDER
from tests.tools import steady

START_LIMIT = 30.0

settings.register_profile("steady", steady)
settings.load_profile("steady")  # what a test does not say otherwise


class RunningWorker:
    """A real worker process.

    Args:
        folder: Where its state folder and its log are.
        listen: Where it listens.
        within: Words of a command that runs it, such as ``unshare``.
        env: What is set in its environment.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        join_url: What it printed at its first start.
        state_dir: Its state folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        listen: str = "127.0.0.1:0",
        within: Sequence[str] = (),
        **env: str,
    ) -> None:
        self.env = {**os.environ, **env}
        self.state_dir = folder / "state"
        self.log_path = folder / "worker.log"
        folder.mkdir(parents=True, exist_ok=True)
        command = [*within, sys.executable, "-m", "mlepool", "worker"]
        command += ["--listen", listen]
        command += ["--state-dir", str(self.state_dir)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=self.env,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"listening on (\S+):(\d+)", first)
        if not found:
            self.process.kill()
            self.end()
        assert found, f"{first}{self.log_path.read_text()}"
        self.port = int(found.group(2))
        self.join_url = ""

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def token(self) -> str:
        return (self.state_dir / "token").read_text().strip()

    def read_join_url(self) -> str:
        assert self.process.stdout is not None
        self.process.stdout.readline()
        return self.process.stdout.readline().strip()

    def supervisor_pid(self) -> int:
        for pid in processes():
            text = command_line(pid)
            if "mlepool.supervisor" in text and str(self.state_dir) in text:
                return pid
        raise LookupError("no supervisor")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        # One that was killed has left its name behind: other tests would ask it.
        for entry in Path(self.env["MLEPOOL_HOME"], WORKERS_FOLDER).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if str(self.state_dir) in entry.read_text().splitlines():
                    entry.unlink()


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    """Give the processes that a process has started and not waited for."""
    found: list[int] = []
    # A thread, or all of it, may end while this looks.
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def end_what_is_left(folder: Path) -> None:
    """End jobs that tests have left, with whose end their supervisors end."""
    for pid in processes():
        text = command_line(pid)
        if "mlepool.supervisor" in text and f"{folder}/" in text:
            for child in children_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)  # each leads a session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Have the report of a test that logs an odd path pass between processes."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


def wait_until(condition, limit: float = 30.0) -> None:
    """Wait for a fact; fail if it does not come true."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Take SIGINT, and with us who is started here: tests press Ctrl-C.

    A shell starts background jobs with SIGINT ignored, and tests may be one.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def account(tmp_path_factory) -> Iterator[Path]:
    """An account folder of the tests' own: nothing of the user's is touched."""
    folder = tmp_path_factory.mktemp("account")
    os.environ["MLEPOOL_HOME"] = str(folder)
    yield folder
    del os.environ["MLEPOOL_HOME"]
    end_what_is_left(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def worker(tmp_path_factory) -> Iterator[RunningWorker]:
    """One worker for all tests that do not harm it."""
    running = RunningWorker(tmp_path_factory.mktemp("worker"))
    yield running
    running.end()


@pytest.fixture
def own_worker(tmp_path) -> Iterator[RunningWorker]:
    """A worker for one test that may do with it what it likes."""
    running = RunningWorker(tmp_path / "own")
    yield running
    running.end()


@pytest.fixture
def start_worker(tmp_path) -> Iterator[Callable[..., RunningWorker]]:
    """Start workers by name, each with a folder of its own; all end with the test."""
    running: list[RunningWorker] = []

    def start(name: str, **options: Any) -> RunningWorker:
        one = RunningWorker(tmp_path / name, **options)
        running.append(one)
        return one

    yield start
    for one in running:
        one.end()


@pytest.fixture
def conn(worker) -> Iterator[mlepool.Connection]:
    """A connection to the shared worker."""
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        yield conn


@pytest.fixture
def bare_signals() -> Iterator[None]:
    """No signal is handled but Ctrl-C: pytest's own time limit is one that is."""
    kept = {one: signal.getsignal(one) for one in signal.valid_signals()}
    handled = {one: how for one, how in kept.items() if callable(how)}
    for one in handled:
        signal.signal(one, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for one, how in handled.items():
        signal.signal(one, how)
