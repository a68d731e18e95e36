"""A job's output, whole and in order, whatever is done to its links and its worker."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import mlepool
from mlepool.testing.proxy import Cut, FaultProxy
from tests.tools import steady

pytestmark = pytest.mark.real

CUTS = 100
KILLS = 20

# Blocks of lines to one stream and then the other. At the end it waits for input, so
# that no cut or kill comes too late to do harm.
PRINT = """
import os, sys
lines = [b"%d\\n" % number for number in range({count})]
for at in range(0, {count}, 500):
    os.write(1 + at // 500 % 2, b"".join(lines[at : at + 500]))
    if at % {pause} == 0: sys.stdin.readline()
sys.exit(7)
"""


def printing(count: int, *, pause: int) -> list[str]:
    return [sys.executable, "-c", PRINT.format(count=count, pause=pause)]


def check(job: mlepool.Listener, lines: dict[str, list[str]], count: int) -> None:
    """See that each line came once, in order, and that the end is known."""
    for number, name in enumerate(("stdout", "stderr")):
        starts = range(500 * number, count, 1000)
        expected = [str(one) for at in starts for one in range(at, at + 500)]
        assert lines[name] == expected
    assert (job.exit_code, job.status, job.done) == (7, "FAILED", True)


def by_stream(job: mlepool.Listener) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for line in job:
        lines[line.stream].append(line)
    return lines


def random_cuts(seed: int, *, handshake: int) -> Iterator[Cut]:
    """Make cuts in both directions, within handshakes and long after them.

    Args:
        seed: The same one gives the same cuts.
        handshake: Bytes that a client sends before its first request.
    """
    rng = random.Random(seed)
    for _ in range(CUTS):
        if rng.random() < 0.7:
            cut = Cut(rng.randrange(1, 90_000), "to_client")
        else:  # what follows the handshake are repeated requests, of so many bytes
            cut = Cut(rng.randrange(1, handshake + 150), "to_worker")
        yield cut._replace(reset=rng.random() < 0.5)


@settings(
    steady,
    max_examples=1 if steady.derandomize else steady.max_examples,
    phases=[Phase.explicit, Phase.generate],  # there is no simpler example than a seed
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_million_lines_come_once_and_in_order_over_100_cuts(
    worker, monkeypatch, seed
):
    # Most of these links are cut before a frame has come whole, often ten in a row.
    monkeypatch.setattr("mlepool.client.links.redial.MAX_PAUSE", 0.05)
    count = 1_000_000
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        conn = pool.add("localhost", proxy.port)
        conn.connect()
        handshake = proxy.forwarded("to_worker")
        proxy.schedule(random_cuts(seed, handshake=handshake))
        command = printing(count, pause=count)
        job = conn.run(command, stdin=True, complete=False)
        proxy.cut(after_bytes=1000)
        job.send_input("\n")
        check(job, by_stream(job), count)
        assert proxy.cuts == CUTS + 1


# Starts a worker for each line that it reads, at the port in it, and kills the one
# before with SIGKILL. It forks them, so that Python need not be started each time.
PHOENIX = """
import asyncio, os, pathlib, signal, sys
from mlepool.config import WorkerConfig, parse_listen
from mlepool.worker.daemon import Worker

async def serve(folder, port):
    listen = parse_listen(f"127.0.0.1:{port}")
    async with Worker(WorkerConfig(folder / "state", listen, "phoenix", folder)) as one:
        print(one.port, flush=True)
        await asyncio.Event().wait()

worker = None
for line in sys.stdin:
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    worker = os.fork()
    if worker == 0:
        asyncio.run(serve(pathlib.Path(sys.argv[1]), int(line)))
os.kill(worker, signal.SIGKILL)
"""


class Phoenix:
    """A worker that is killed and started again, at the same port."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = 0

    def rise(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self.port}\n")
        self._process.stdin.flush()
        self.port = int(self._process.stdout.readline())


@pytest.fixture
def phoenix(tmp_path) -> Iterator[Phoenix]:
    command = [sys.executable, "-c", PHOENIX, str(tmp_path)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Phoenix(process)


def test_output_comes_over_links_that_all_break_soon(worker):
    size = 3_000_000
    command = f"read go; yes 0123456789 | head -c {size}"
    with (
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port) as conn,
    ):
        job = conn.run(command, stdin=True, complete=False)
        proxy.schedule(Cut(60_000, "to_client") for _ in range(1000))
        proxy.cut()
        job.send_input("\n")
        assert job.read() == ("0123456789\n" * size)[:size]
        assert job.wait().ok
        assert proxy.cuts > size / 60_000


def test_lines_come_once_and_in_order_while_the_worker_is_killed_20_times(phoenix):
    count, pause = KILLS * 10_000, 10_000
    phoenix.rise()
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", phoenix.port)
        conn.connect()
        job = conn.run(printing(count, pause=pause), stdin=True, complete=False)
        lines: dict[str, list[str]] = {}
        reader = threading.Thread(target=lambda: lines.update(by_stream(job)))
        reader.start()
        for _ in range(KILLS):
            job.send_input("\n")
            phoenix.rise()
        reader.join(60)
        check(job, lines, count)
