"""How the cost of a pool grows with its hosts: `python -m benchmarks.scale`.

One client process and 250, 500 and 1,000 hosts, which are doors of ten light workers
(`benchmarks.light`), or so many real workers (`--real`). Each count is measured in a
client of its own. It prints a table, and the slope of each column: what one more host
costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tabulate import tabulate

from .mlepool_bench import start_worker
from .processes import MARK, end, free_port, marked, sweep
from .report import machine
from .scale_client import Hosts, Measured
from .session import ROOT

COUNTS = (250, 500, 1000)
WORKERS = 10  # light ones, which share the doors
CLIENT_LIMIT = 600.0  # seconds for one client to measure everything

TITLES = {
    "connect": "connect, s",
    "connect_cpu": "client CPU, s",
    "run": 'run("true"), s',
    "run_cpu": "client CPU, s",
    "line": "one line each, s",
    "sync": "sync of 20 files, s",
    "client_kib": "client, KiB a connection",
    "worker_kib": "workers, KiB a connection",
    "rest_cpu": "client at rest, % of a core",
    "worker_rest_cpu": "workers at rest, %",
    "notice": "notice a killed tenth, s",
    "notice_silent": "notice a silent tenth, s",
}


def main() -> None:
    """Measure as the arguments say, and print the table."""
    options = _parse()
    print(f"mlepool at scale: {machine()}", flush=True)
    rows = [_measure(count, options) for count in options.counts]
    names = [name for name in TITLES if getattr(rows[0], name) is not None]
    body = [[TITLES[name], *(getattr(row, name) for row in rows)] for name in names]
    for line, name in zip(body, names, strict=True):
        line.append(_slope(rows, name))
    headers = ["", *(f"{row.hosts:,} hosts" for row in rows), "each host more"]
    print(tabulate(body, headers, tablefmt="grid", floatfmt=".4g"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    add = parser.add_argument
    add("--counts", type=_numbers, default=COUNTS, help="such as 100,200")
    add("--real", action="store_true", help="real workers: 60 MiB and more for each")
    add("--tls", action="store_true", help="over TLS, not over unix sockets")
    add("--rest", type=float, default=30.0, help="seconds at rest")
    add("--silent", action="store_true", help="also have a tenth fall silent: 60 s")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _measure(count: int, options: argparse.Namespace) -> Measured:
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        os.environ["MLEPOOL_HOME"] = str(folder / "home")
        os.environ[MARK] = str(folder)
        start = _real if options.real else _light
        try:
            with start(folder, count, is_tls=options.tls) as hosts:
                hosts = hosts._replace(rest=options.rest, is_silent=options.silent)
                return _in_a_client(hosts)
        finally:
            sweep(folder)


def _in_a_client(hosts: Hosts) -> Measured:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale_client"],
        input=json.dumps(hosts),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=CLIENT_LIMIT,
        check=True,
    )
    return Measured(*json.loads(done.stdout))


@contextmanager
def _light(folder: Path, count: int, *, is_tls: bool) -> Iterator[Hosts]:
    each = count // WORKERS
    places, groups = [], []
    with ExitStack() as stack:
        for number in range(WORKERS):
            command = [sys.executable, "-m", "benchmarks.light"]
            command += [str(folder / f"worker-{number}"), str(each)]
            process = subprocess.Popen(
                [*command, "--tls"] if is_tls else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            stack.enter_context(process)
            stack.callback(end, process)
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            places += told["places"]
            groups.append(told["pids"])
        yield Hosts(places, groups)


@contextmanager
def _real(folder: Path, count: int, *, is_tls: bool) -> Iterator[Hosts]:
    places = []
    with ExitStack() as stack:
        for number in range(count):
            state, port = folder / f"state-{number}", free_port()
            stack.callback(end, start_worker(state, port))
            places.append(f"localhost:{port}" if is_tls else f"unix:{state}")
        yield Hosts(places, [marked(folder)])


def _slope(rows: Sequence[Measured], name: str) -> float | str:
    values = [getattr(row, name) for row in rows]
    if len(rows) < 2:
        return ""
    return statistics.linear_regression([row.hosts for row in rows], values).slope


if __name__ == "__main__":
    main()
