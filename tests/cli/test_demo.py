"""mlepool demo: real workers, a table, and nothing left of it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.shell import LIMIT, MLEPOOL
from tests.conftest import processes

pytestmark = pytest.mark.real

DEMO_LIMIT = 60.0  # seconds; about 10 on an idle machine
ROW = re.compile(
    r"(alpha|beta|gamma) +(\d-gram), ([a-z-]+) +(\d\.\d+) +(\S+) +(-?\d+) +([A-Z]+) "
    r"+\d+\.\d"
)


def start(tmp_path: Path) -> subprocess.Popen[str]:
    """Start the demo; all that it starts is known by this folder."""
    return subprocess.Popen(
        [*MLEPOOL, "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def leftovers(tmp_path: Path) -> list[str]:
    """Name processes, sockets and files that the demo has left."""
    folder = str(tmp_path).encode()
    left = [str(path) for path in tmp_path.iterdir()]
    for pid in processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # gone, or not ours
        if folder in environment:
            left.append(f"process {pid}")
    if folder in Path("/proc/net/unix").read_bytes():
        left.append("a socket")
    return left


def test_the_demo_trains_on_three_workers_and_leaves_nothing(tmp_path):
    began = time.monotonic()
    with start(tmp_path) as demo:
        out, err = demo.communicate(timeout=DEMO_LIMIT)
    assert demo.returncode == 0, err
    assert time.monotonic() - began < DEMO_LIMIT
    assert leftovers(tmp_path) == []

    rows = {row[0]: row[1:] for row in ROW.findall(out)}
    assert set(rows) == {"alpha", "beta", "gamma"}
    models = {name: f"{order}, {kind}" for name, (order, kind, *_) in rows.items()}
    assert len(set(models.values())) == 3
    collected = {name: row[3] for name, row in rows.items()}
    result = "out/result.txt"
    assert collected == {"alpha": result, "beta": result, "gamma": "-"}
    assert len(re.findall(r"^\w+ +\| synced 2 files, ", out, re.M)) == 3
    assert len(set(re.findall(r"tree ([0-9a-f]{12})", out))) == 1
    ends = {name: (code, status) for name, (*_, code, status) in rows.items()}
    assert ends == {
        "alpha": ("0", "SUCCEEDED"),
        "beta": ("0", "SUCCEEDED"),
        "gamma": (str(-signal.SIGINT), "STOPPED"),
    }
    # The measured bits per character: better than chance, and the longer context wins.
    bits = {name: float(row[2]) for name, row in rows.items()}
    assert 1 < bits["alpha"] < bits["beta"] < bits["gamma"] < 6

    lines = out.splitlines()
    assert all(f"alpha | epoch {number}/4: " in out for number in (1, 2, 3, 4))
    assert "gamma | epoch 2/4: " in out
    assert "gamma | epoch 4/4: " not in out
    assert not re.search(r"^gamma \|\s*$", out, re.M)
    assert lines[-1].startswith("all workers have ended; ")
    warned = sorted(
        line.split(" | ")[0] for line in err.splitlines() if "warning" in line
    )
    assert warned == ["alpha", "beta ", "gamma"]
    assert re.search(r"gamma \| mlepool: stopped: SIGINT to pid \d+; 0 survivors", err)


def test_a_demo_that_is_ended_early_leaves_nothing_either(tmp_path):
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        while "connected" not in demo.stdout.readline():
            pass
        # To the whole group, as a terminal does.
        os.killpg(demo.pid, signal.SIGTERM)
        demo.communicate(timeout=LIMIT)
    assert demo.returncode == 128 + signal.SIGINT
    assert leftovers(tmp_path) == []
