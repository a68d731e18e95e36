"""``mlepool demo``: the main job on this machine, with three real workers."""

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlepool.cli.printer import Printer
from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.pool import AsyncClientPool
from mlepool.client.tables import Table
from mlepool.errors import WorkerError

__all__ = ["demo"]

SCRIPT = Path(__file__).with_name("ngram.py")
START_LIMIT = 30.0  # seconds for a worker to listen
END_LIMIT = 10.0  # seconds for a worker and its supervisor to end


class Training(NamedTuple):
    """What one worker trains."""

    host: str
    order: int
    smoothing: str
    stop_after_epoch: int = 0


TRAININGS = (
    Training("alpha", 5, "witten-bell"),
    Training("beta", 4, "absolute"),
    Training("gamma", 4, "laplace", stop_after_epoch=2),
)


def demo() -> None:
    """Train language models on three local workers, live.

    Three real worker processes, each with its own state folder; a folder of code that
    is synced to each; a character n-gram model of Python's own sources on each, whose
    results come back; one of them is stopped half-way. It takes about ten seconds,
    needs no network, and leaves nothing behind.
    """
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with _workers([one.host for one in TRAININGS]) as (ports, folder):
        table = asyncio.run(_train_all(ports, _write_code(folder)))
    print(
        f"\n{table}\n\nall workers have ended; {time.monotonic() - began:.1f} s in all"
    )


def _write_code(folder: Path) -> Path:
    """Make the folder that is synced: a script, and what is to stay here."""
    code = folder / "code"
    code.mkdir()
    shutil.copy(SCRIPT, code / "train.py")
    (code / ".gitignore").write_text("results/\n")
    return code


async def _train_all(ports: dict[str, int], code: Path) -> Table:
    async with AsyncClientPool() as pool:
        for host, port in ports.items():
            pool.add("localhost", port, name=host)
        await pool.connect()
        printer = Printer(list(ports))
        print(f"{len(pool)} workers are connected\n")
        runs = [_train(pool[one.host], one, code, printer=printer) for one in TRAININGS]
        rows = await asyncio.gather(*runs)
    headers = ("host", "model", "held-out bits/char", "collected", "exit code")
    return Table((*headers, "status", "seconds"), rows)


async def _train(
    connection: AsyncConnection, training: Training, code: Path, *, printer: Printer
) -> tuple[str, ...]:
    name, results = connection.name, code / "results" / connection.name
    synced = await connection.sync(code, f"{name}-code", raise_error=True)
    value = synced.value
    printer.say(name, f"synced {value.sent} files, tree {value.digest[:12]}")
    command = [sys.executable, "train.py", "--order", str(training.order)]
    command += ["--smoothing", training.smoothing, "--out", "out"]
    listener = await connection.run(
        command,
        cwd=f"{name}-code",
        collect="out/",
        collect_to=results,
        complete=False,
    )
    async for batch in listener.batches():
        printer.print(connection.name, batch)
        last = training.stop_after_epoch
        if last and any(
            one.startswith(f"epoch {last}/") and one.end == "\n" for one in batch
        ):
            await _stop(listener, printer)
    return (
        connection.name,
        f"{training.order}-gram, {training.smoothing}",
        _bits(listener),
        _collected(results),
        str(listener.exit_code),
        str(listener.status),
        f"{listener.duration:.1f}",
    )


async def _stop(listener: AsyncListener, printer: Printer) -> None:
    report = await listener.stop()
    signals = ", ".join(f"{one.signal} to pid {one.pid}" for one in report.signalled)
    survivors = len(report.survivors)
    text = f"stopped: {signals}; {survivors} survivors, {report.seconds * 1000:.0f} ms"
    printer.complain(listener.host, text)


def _bits(listener: AsyncListener) -> str:
    """Find the last figure that a training has printed."""
    found = re.findall(r"(?:bits_per_char=|: )(\d+\.\d+)", listener.stdout)
    return found[-1] if found else "-"


def _collected(results: Path) -> str:
    """Name the files that came back."""
    found = (one for one in results.rglob("*") if one.is_file())
    return ", ".join(str(one.relative_to(results)) for one in found) or "-"


@contextlib.contextmanager
def _workers(names: list[str]) -> Iterator[tuple[dict[str, int], Path]]:
    """Run workers in a folder of their own; give their ports, and the folder."""
    folder = Path(tempfile.mkdtemp(prefix="mlepool-demo-"))
    os.environ["MLEPOOL_HOME"] = str(folder / "account")
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in names:
            processes[name] = _start_worker(name, folder)
        ports = {
            name: _port(name, process, folder) for name, process in processes.items()
        }
        yield ports, folder
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in processes.items():
            _wait_for_end(process)
            _wait_for_supervisor(folder / name)
        shutil.rmtree(folder)
        del os.environ["MLEPOOL_HOME"]


def _start_worker(name: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlepool", "worker", "--listen", "127.0.0.1:0"]
    command += ["--name", name, "--state-dir", str(folder / name)]
    with open(folder / f"{name}.log", "w") as log:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            process_group=0,  # Ctrl-C is for the demo: it stops jobs, then workers
        )


def _port(name: str, process: subprocess.Popen[str], folder: Path) -> int:
    """Read where a worker listens from its first line."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_LIMIT)
    line = process.stdout.readline() if ready else ""
    found = re.search(r"listening on \S+:(\d+)", line)
    if found is None:
        log = (folder / f"{name}.log").read_text().strip().splitlines()
        cause = log[-1] if log else f"not a word from it in {START_LIMIT:g} s"
        raise WorkerError(f"the demo's worker {name} did not start: {cause}")
    return int(found.group(1))


def _wait_for_end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    try:
        process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for_supervisor(state_dir: Path) -> None:
    deadline = time.monotonic() + END_LIMIT
    while (state_dir / "supervisor.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _interrupt(*_: object) -> None:
    """Take any request to end as Ctrl-C, which asyncio knows how to obey."""
    signal.raise_signal(signal.SIGINT)
